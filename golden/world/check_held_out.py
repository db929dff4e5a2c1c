"""No prompt of the suite is a line of any training text: every text of every stage is drawn again and looked at.

    python golden/world/check_held_out.py [--documents N]

The LLM's documents (all those of its 1,600 steps), the captions that the tokenizers, the U-Net and the adapter's
pairs are drawn from. What is held out of captions (words, templates, combinations) is looked for there, too.
Exit 1 with what was found.
"""

import argparse
import re
from collections import Counter

from captions import HELD_WORDS, caption, rich_caption
from corpus import document
from make_suite import suite_prompts
from stage import batch_random
from world import HELD_OUT, draw_scene

SEED, STEPS, DOCUMENTS = 2, 1600, 192  # train_llm.py's


def lines(text):
    """A document's lines, and what follows "that is:"."""
    for line in text.split("\n"):
        yield line
        yield line.removeprefix("that is: ")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--documents", type=int, default=STEPS * DOCUMENTS)
    args = args.parse_args()
    taken = suite_prompts()
    found, looked = Counter(), Counter()

    for step in range(-(-args.documents // DOCUMENTS)):
        random = batch_random(SEED, step)
        for _ in range(DOCUMENTS):
            looked["documents of the LLM"] += 1
            found["suite prompts in the LLM's text"] += any(line in taken for line in lines(document(random, taken)))

    held = re.compile(r"\b(" + "|".join(w for words in HELD_WORDS.values() for w in words) + r")\b")
    random = batch_random("check")
    for _ in range(20000):
        scene, relation = draw_scene(random)
        looked["scenes"] += 1
        found["unseen combinations in scenes"] += any((t["shape"], t["color"]) in HELD_OUT for t in scene["objects"])
        for text in (caption(random, scene, relation, "short")[0], rich_caption(random, scene, relation)[0]):
            looked["captions"] += 1
            found["held words in captions"] += bool(held.search(text))
    for what, many in looked.items():
        print(f"{many} {what}")
    for what, many in found.items():
        print(f"{many} {what}")
    raise SystemExit(any(found.values()) or not all(looked.values()))


if __name__ == "__main__":
    main()

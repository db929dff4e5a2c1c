"""weights/tiny/suite.jsonl: the prompts by which `llmdiff eval` judges, with what each has to show.

    python golden/world/make_suite.py [weights/tiny/suite.jsonl]

One JSON object a line: id, split, kind, prompt, scene (one true picture of the prompt, by which the
checker itself is judged), expect. No prompt of it occurs in any training text: see `suite_prompts`.
"""

import json
import random
import re
import sys
from pathlib import Path

from captions import HELD_WORDS, caption, longer
from world import draw_scene

SUITE = Path(__file__).parents[2] / "weights" / "tiny" / "suite.jsonl"

# split, kind, how many, count of objects, unseen combination, caption's kind, with held words and templates
PARTS = [
    ("plain", "one", 60, 1, False, "short", False),
    ("plain", "two", 60, 2, False, "short", False),
    ("plain", "relation", 80, 2, False, "short", False),
    ("combination", "one", 20, 1, True, "short", False),
    ("combination", "two", 40, 2, True, "short", False),
    ("relation", "seen", 60, 2, False, "relation", False),
    ("negation", "seen", 60, None, False, "negation", False),
    ("comparison", "seen", 60, 2, False, "comparison", False),
    ("reference", "seen", 60, 2, False, "reference", False),
    ("long", "seen", 40, None, False, "long", False),
    ("longer", "unseen", 40, None, False, "long", False),
    ("phrasing", "words", 40, None, False, "short", True),
    ("phrasing", "relation", 20, 2, False, "relation", True),
    ("phrasing", "negation", 20, None, False, "negation", True),
    ("phrasing", "comparison", 20, 2, False, "comparison", True),
    ("phrasing", "reference", 20, 2, False, "reference", True),
]


def suite_prompts(path=SUITE):
    return {json.loads(line)["prompt"] for line in path.read_text().splitlines()}


def unseen_word(text):
    return any(f" {word}" in f" {text}" for words in HELD_WORDS.values() for word in words)


def main():
    taken = set()
    with open(Path(sys.argv[1]) if sys.argv[1:] else SUITE, "w") as out:
        for split, kind, many, count, combination, of, held in PARTS:
            draw = random.Random(f"suite/{split}/{kind}")
            number = 0
            while number < many:
                scene, relation = draw_scene(draw, count, combination)
                template = longer if split == "longer" else None
                told = caption(draw, scene, relation, of, held, template)
                if told is None or told[0] in taken:
                    continue
                text, expect = told
                if (split, kind) == ("plain", "two") and "relations" in expect:
                    continue
                if (split, kind) == ("plain", "relation") and "relations" not in expect:
                    continue
                if kind == "words" and not unseen_word(text):
                    continue
                if split == "longer" and not 55 < len(re.findall(r"\w+|[^\w\s]", text)) <= 64:  # CLIP reads 77
                    continue
                taken.add(text)
                number += 1
                line = {"id": f"{split}-{kind}-{number:03}", "split": split, "kind": kind, "prompt": text,
                        "scene": scene, "expect": expect}
                out.write(json.dumps(line) + "\n")

if __name__ == "__main__":
    main()

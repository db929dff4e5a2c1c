"""make gallery: the first prompt of each kind in weights/tiny/suite.jsonl, drawn by `llmdiff eval`, as a table in
README.md between its two gallery marks, with what the checker finds wrong. One picture of each: nothing is chosen.
"""

import html
import json
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "weights" / "tiny" / "suite.jsonl"
COLUMNS = 4
MARKS = "<!-- gallery: made by make gallery -->\n", "<!-- end of gallery -->\n"


def first_of_each_kind(lines):
    first = {}
    for line in lines:
        entry = json.loads(line)
        first.setdefault((entry["split"], entry.get("kind")), line)
    return list(first.values())


def draw(lines, work):
    """What `llmdiff eval` says of each, and work/llmdiff/<id>.png."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "suite.jsonl").write_text("\n".join(lines) + "\n")
    subprocess.run([ROOT / "llmdiff", "eval", "-m", "weights/tiny", "--suite", work / "suite.jsonl", "--json",
                    work / "eval.json", "-o", work], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads((work / "eval.json").read_text())["prompts"]


def verdict(picture):
    """The kinds of statements that don't hold."""
    wrong = [kind for kind, held in picture["statements"].items() if not all(held) and kind != "scene"]
    return "wrong: " + ", ".join(wrong) if wrong else "right"


def table(prompts):
    lines = ["<table>"]
    for i, prompt in enumerate(prompts):
        text = html.escape(prompt["prompt"])
        lines += ["<tr>"] * (i % COLUMNS == 0)
        lines.append(f'<td width="{100 // COLUMNS}%" valign="top"><img src="gallery/{i + 1:02}.png" width="128" '
                     f'alt="{text}"><br>{text}<br><i>{verdict(prompt["pictures"][0])}</i></td>')
        lines += ["</tr>"] * (i % COLUMNS == COLUMNS - 1 or i == len(prompts) - 1)
    return "\n".join([*lines, "</table>"]) + "\n"


def between_marks(text, inside):
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    return before + MARKS[0] + inside + MARKS[1] + after


def main():
    work, to = ROOT / "build" / "gallery", ROOT / "gallery"
    prompts = draw(first_of_each_kind(SUITE.read_text().splitlines()), work)
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for i, prompt in enumerate(prompts):
        shutil.copy(work / "llmdiff" / f"{prompt['id']}.png", to / f"{i + 1:02}.png")
    readme = ROOT / "README.md"
    readme.write_text(between_marks(readme.read_text(), table(prompts)))
    right = sum(verdict(p["pictures"][0]) == "right" for p in prompts)
    print(f"{len(prompts)} pictures in gallery/ and README.md, {right} of them right")


if __name__ == "__main__":
    main()

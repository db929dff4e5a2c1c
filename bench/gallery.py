"""make gallery: draws every prompt of gallery/prompts.txt once, with seed 42 and the pack's own settings, and
puts the pictures as a table into README.md, between its two gallery marks. Nothing is chosen among seeds, and
what fails is shown. The prompts are the first of each kind in weights/tiny/suite.jsonl.
"""

import html
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLUMNS = 4
MARKS = "<!-- gallery: made by make gallery -->\n", "<!-- end of gallery -->\n"


def draw(prompts, to):
    """to/01.png, to/02.png, ... in the order of the prompts: 128 pixels wide."""
    work = ROOT / "build" / "gallery"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "prompts.txt").write_text("".join(p + "\n" for p in prompts))
    subprocess.run([ROOT / "llmdiff", "generate", "--prompt-file", work / "prompts.txt", "--enlarge", "2",
                    "--seed", "42", "-o", work / "picture.png"], cwd=ROOT, check=True)
    for old in to.glob("*.png"):
        old.unlink()
    for i in range(len(prompts)):
        made = work / ("picture.png" if i == 0 else f"picture_{i + 1}.png")
        shutil.move(made, to / f"{i + 1:02}.png")


def table(prompts):
    lines = ["<table>"]
    for first in range(0, len(prompts), COLUMNS):
        lines.append("<tr>")
        for i, prompt in enumerate(prompts[first:first + COLUMNS], first + 1):
            text = html.escape(prompt)
            lines.append(f'<td width="{100 // COLUMNS}%" valign="top"><img src="gallery/{i:02}.png" width="128" '
                         f'alt="{text}"><br>{text}</td>')
        lines.append("</tr>")
    return "\n".join([*lines, "</table>"]) + "\n"


def between_marks(text, inside):
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    return before + MARKS[0] + inside + MARKS[1] + after


def main():
    prompts = (ROOT / "gallery" / "prompts.txt").read_text().splitlines()
    draw(prompts, ROOT / "gallery")
    readme = ROOT / "README.md"
    readme.write_text(between_marks(readme.read_text(), table(prompts)))
    print(f"{len(prompts)} pictures in gallery/, and a table of them in README.md")


if __name__ == "__main__":
    main()

"""Pictures with captions, as `llmdiff train --train-data-dir` reads them: what the adapter learns from.

    python3 golden/world/make_pairs.py OUT.tar [--count 20000] [--captions rich|short] [--seed 4]

A webdataset tar of PNG and txt. Needs NumPy and Pillow alone. No unseen combination, no held word or
template, no prompt of the suite.
"""

import argparse
import io
import os
import random
import tarfile
from pathlib import Path

from PIL import Image

from captions import caption, rich_caption
from make_suite import suite_prompts
from world import draw_scene, render


def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("out", type=Path)
    args.add_argument("--count", type=int, default=20000)
    args.add_argument("--captions", choices=("rich", "short"), default="rich")
    args.add_argument("--seed", type=int, default=4)
    args = args.parse_args()
    taken = suite_prompts()
    draw = random.Random(f"pairs/{args.seed}")
    part = args.out.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        made = 0
        while made < args.count:
            scene, relation = draw_scene(draw)
            text = (rich_caption(draw, scene, relation) if args.captions == "rich" else
                    caption(draw, scene, relation, "short"))[0]
            if text in taken:
                continue
            png = io.BytesIO()
            Image.fromarray(render(scene)).save(png, "PNG", compress_level=1)
            add(tar, f"{made:06}.png", png.getvalue())
            add(tar, f"{made:06}.txt", text.encode())
            made += 1
    os.replace(part, args.out)


if __name__ == "__main__":
    main()

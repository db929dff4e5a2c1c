"""The small world's goldens, for ref/world/: scenes with the SHA-256 of the bytes that world.py draws, one
picture's bytes whole, and a small suite in weights/tiny/suite.jsonl's form.

    data/world/scenes.jsonl    {"scene": {...}, "sha256": "..."}, one a line
    data/world/picture.rgb     [64, 64, 3] of the first line's scene
    data/world/suite.jsonl     prompts of every kind of statement
"""

import hashlib
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "world"))

from world import BACKGROUNDS, COLORS, SHAPES, draw_scene, render  # noqa: E402

DATA = HERE / "data" / "world"


def scenes():
    draw = random.Random("golden/world")
    for i in range(48):
        yield draw_scene(draw, held_out=i % 4 == 3)[0]
    # every shape in every colour on every background, and one over another
    for shape in SHAPES:
        for color in COLORS:
            for background in BACKGROUNDS:
                yield {"background": background, "objects": [
                    {"shape": shape, "color": color, "size": "large", "x": 31.75, "y": 33.0, "r": 13.25}]}
    yield {"background": "white", "objects": [
        {"shape": "circle", "color": "red", "size": "large", "x": 30.25, "y": 30.0, "r": 14.5},
        {"shape": "triangle", "color": "blue", "size": "small", "x": 36.0, "y": 33.25, "r": 8.75}]}
    # not on the quarters that every drawn scene lies on, and past the edge
    for _ in range(8):
        yield {"background": "gray", "objects": [
            {"shape": shape, "color": "green", "size": "small", "x": draw.uniform(0, 64),
             "y": draw.uniform(0, 64), "r": draw.uniform(6, 10.9)} for shape in SHAPES]}


def suite():
    """Prompts of every kind of statement, in words of their own: what captions.py says may change."""
    draw = random.Random("golden/world/suite")
    for i in range(24):
        split = ("plain", "relation", "negation")[i % 3]
        count = 1 + (i // 3) % 2 if split != "relation" else 2
        scene, relation = draw_scene(draw, count)
        things = [{key: thing[key] for key in ("shape", "color", "size")} for thing in scene["objects"]]
        told = ["a {size} {color} {shape}".format(**thing) for thing in things]
        expect = {"count": count, "background": scene["background"], "objects": things}
        if split == "relation":
            prompt = f" {relation.replace('left', 'to the left').replace('right', 'to the right')} ".join(told)
            expect["relations"] = [[0, relation, 1]]
        else:
            prompt = " and ".join(told)
        prompt += f" on a {scene['background']} background"
        if split == "negation":
            absent = next(shape for shape in SHAPES if all(thing["shape"] != shape for thing in things))
            prompt += f", and no {absent}"
            expect["absent"] = [{"shape": absent}]
        if i % 4 == 0 and split != "relation":  # only the shapes are told
            expect["objects"] = [{"shape": thing["shape"]} for thing in things]
            del expect["background"]
            prompt = "nothing but " + " and ".join(f"a {thing['shape']}" for thing in things)
        yield {"id": f"{split}-{i:02}", "split": split, "kind": ("one", "two")[count - 1], "prompt": prompt,
               "scene": scene, "expect": expect}


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    first = None
    with open(DATA / "scenes.jsonl", "w") as out:
        for scene in scenes():
            picture = render(scene).tobytes()
            first = first or picture
            out.write(json.dumps({"scene": scene, "sha256": hashlib.sha256(picture).hexdigest()}) + "\n")
    (DATA / "picture.rgb").write_bytes(first)
    (DATA / "suite.jsonl").write_text("".join(json.dumps(line) + "\n" for line in suite()))


if __name__ == "__main__":
    main()

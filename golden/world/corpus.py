"""The LLM's text: descriptions of scenes of the small world and reasoning about them. No picture.

A document begins with a description in any phrasing, those that no caption uses included, and goes on with
the same in other words and with questions and answers. Some tell what a word means.
"""

from captions import BESIDE, HELD_WORDS, SEEN, WORDS, a, caption
from world import COLORS, RELATIONS, SHAPES, draw_scene

KINDS = list(SEEN)


def describe(random, scene, relation):
    while True:
        told = caption(random, scene, relation, random.choice(KINDS), held=random.random() < 0.5)
        if told:
            return told


def plain(facts):
    """small red circle, of the facts that were told"""
    return " ".join(facts[f] for f in ("size", "color", "shape") if f in facts)


def summary(expect):
    """The description's meaning in the fewest plain words, in the order of its objects."""
    things = [a(plain(f)) for f in expect["objects"]]
    if "relations" in expect:
        words = f"{things[0]} {BESIDE[expect['relations'][0][1]][-1]} {things[1]}"
    else:
        words = " and ".join(things)
    return words + (f" on a {expect['background']} background" if "background" in expect else "")


def questions(random, expect):
    """Endlessly: a question about what was told, and its answer. What wasn't told: "not said"."""
    things = expect["objects"]
    shapes = [f["shape"] for f in things]
    shown = {f["shape"] for f in things} | {f["shape"] for f in expect.get("absent", [])}
    relation = expect["relations"][0][1] if "relations" in expect else None
    while True:
        i = random.randrange(len(things))
        f = things[i]
        kind = random.randrange(10)
        if kind <= 2 and shapes.count(f["shape"]) == 1:
            yield f"what color is the {f['shape']}", f.get("color", "not said")
        elif kind == 3 and shapes.count(f["shape"]) == 1:
            yield f"how big is the {f['shape']}", f.get("size", "not said")
        elif kind == 4 and "color" in f and sum(f["color"] == o.get("color") for o in things) == 1:
            yield f"what is {f['color']}", f"the {plain({k: v for k, v in f.items() if k != 'color'})}"
        elif kind == 5 and relation and shapes[0] != shapes[1]:
            ask = relation if i == 1 else RELATIONS[relation]
            yield f"what is {ask} the {shapes[i]}", f"the {plain(things[1 - i])}"
        elif kind == 6 and relation and shapes[0] != shapes[1]:
            yield f"where is the {shapes[i]}", f"{relation if i == 0 else RELATIONS[relation]} the {shapes[1 - i]}"
        elif kind == 7:
            shape = random.choice(SHAPES)
            if shape in shown or expect.get("count"):
                yield f"is there {a(shape)}", "yes" if shape in shapes else "no"
        elif kind == 8 and len(things) == 2:
            sizes = [o.get("size") for o in things]
            if None not in sizes and sizes[0] != sizes[1]:
                yield "which is larger", f"the {plain(things[sizes.index('large')])}"
        elif kind == 9:
            yield random.choice((("what is the background", expect.get("background", "not said")),
                                 ("how many things", ("one", "two")[len(things) - 1])))


def meaning(random):
    """What a word means."""
    value = random.choice(list(HELD_WORDS))
    word = random.choice(HELD_WORDS[value] + [w for w in WORDS.get(value, []) if w != value])
    if value in SHAPES:
        return random.choice((f"{a(word)} is {a(value)}.", f"what we call {a(word)} is {a(value)}."))
    if value in COLORS:
        return random.choice((f"{word} is {value}.", f"{word} is a kind of {value}."))
    return f"{word} means {value}."


def document(random, taken=()):
    """One text; the prompts in `taken` are none of its lines, neither as a description nor in other words."""
    if random.random() < 0.02:
        return meaning(random)
    while True:
        held_out = random.random() < 0.15
        scene, relation = draw_scene(random, held_out=held_out)
        text, expect = describe(random, scene, relation)
        if text not in taken and summary(expect) not in taken:
            break
    lines = [text]
    parts = ["summary"] * (random.random() < 0.7) + ["question"] * random.randrange(1, 5)
    ask = questions(random, expect)
    random.shuffle(parts)
    for part in parts:
        if part == "summary":
            lines.append(f"that is: {summary(expect)}")
        else:
            question, answer = next(ask)
            lines.append(f"{question}? {answer}")
    return "\n".join(lines)

"""What people say about a scene of the small world, and what of it can be seen in a picture.

    caption(random, scene, relation, kind, held=False) -> text, expect

A template tells some of the scene's facts through a Teller, which picks the words and keeps the facts:
`expect` is what a picture of that text has to show (the format of suite.jsonl). Templates in SEEN occur
in the captions of training pictures; those in HELD, and the words of HELD_WORDS, occur in the LLM's text
only: the split "phrasing" asks for them. Kinds: short (what image captions look like), relation,
negation, comparison, reference, long.
"""

from world import BACKGROUNDS, RELATIONS, SHAPES

WORDS = {
    "circle": ["circle", "circle", "disc"], "square": ["square", "square", "box"], "triangle": ["triangle"],
    "small": ["small", "small", "little"], "large": ["large", "large", "big"],
}
HELD_WORDS = {
    "circle": ["ball", "dot"], "square": ["block", "tile"], "triangle": ["wedge", "three-sided shape"],
    "red": ["crimson", "scarlet"], "green": ["emerald"], "blue": ["azure", "navy"],
    "yellow": ["golden"], "purple": ["violet"], "orange": ["tangerine"],
    "small": ["tiny", "mini"], "large": ["huge", "giant"],
}
BESIDE = {"left of": ["to the left of", "left of"], "right of": ["to the right of", "right of"],
          "above": ["above"], "below": ["below"]}
HELD_BESIDE = {"left of": ["on the left side of"], "right of": ["on the right side of"],
               "above": ["on top of", "over"], "below": ["underneath", "under"]}
POSSESSIVE = {"left of": "to its left", "right of": "to its right", "above": "above it", "below": "below it"}
END = {"left of": ("on the left", "on the right"), "above": ("at the top", "at the bottom")}


def a(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


class Teller:
    """Says facts about one scene and remembers which. i, j: objects, in the order of mention."""

    def __init__(self, random, scene, relation, held):
        self.random, self.scene, self.held = random, scene, held
        order = [0, 1][: len(scene["objects"])]
        if len(order) == 2 and random.random() < 0.5:
            order.reverse()
            relation = RELATIONS[relation]
        self.things, self.relation = [scene["objects"][i] for i in order], relation
        self.expect = {"objects": [{} for _ in order]}
        self.two = len(order) == 2
        self.words = {}

    def pick(self, *choices):
        return self.random.choice(choices)

    def maybe(self, p):
        return self.random.random() < p

    def know(self, i, *facts):
        for fact in facts:
            self.expect["objects"][i][fact] = self.things[i][fact]

    def word(self, value):
        """One word for a value throughout a text."""
        if value not in self.words:
            held = self.held and value in HELD_WORDS and self.maybe(0.6)
            self.words[value] = self.pick(*(HELD_WORDS[value] if held else WORDS.get(value, [value])))
        return self.words[value]

    def say(self, i, fact):
        self.know(i, fact)
        return self.word(self.things[i][fact])

    def noun(self, i, size=None, color=True):
        """"small red circle"; size None: by chance"""
        size = self.maybe(0.5) if size is None else size
        facts = ["size"] * size + ["color"] * color + ["shape"]
        return " ".join(self.say(i, fact) for fact in facts)

    def np(self, i, size=None, color=True):
        return a(self.noun(i, size, color))

    def the(self, i):
        return "the " + self.say(i, "shape")

    def beside(self, reverse=False):
        """the relation of thing 0 to thing 1, or of 1 to 0"""
        self.expect["relations"] = [[0, self.relation, 1]]
        relation = RELATIONS[self.relation] if reverse else self.relation
        return self.pick(*(HELD_BESIDE if self.held and self.maybe(0.6) else BESIDE)[relation])

    def count(self):
        self.expect["count"] = len(self.things)
        return self.pick("two", "exactly two") if self.two else self.pick("one", "a single")

    def ground(self):
        self.expect["background"] = self.scene["background"]
        return self.scene["background"]

    def without(self, *shapes):
        self.expect.setdefault("absent", []).extend({"shape": s} for s in shapes)

    def missing(self):
        """shapes that the scene doesn't have"""
        shown = {t["shape"] for t in self.things}
        return [s for s in SHAPES if s not in shown]

    def differ(self, *facts):
        return self.two and all(self.things[0][f] != self.things[1][f] for f in facts)

    def on(self, p=0.4):
        """ on a white background, or nothing"""
        if not self.maybe(p):
            return ""
        return (f", {self.ground()} background", f" on a {self.ground()} background",
                f" on {self.ground()}")[self.random.randrange(3)]


# ---- Templates: each returns a text, or None where the scene doesn't suit -------------------------


def short(t):
    bare = t.maybe(0.2)
    np = t.noun if bare else t.np
    if not t.two:
        t.expect["count"] = 1
        return np(0, color=t.maybe(0.95)) + t.on()
    t.expect["count"] = 2
    if t.maybe(0.7):
        return f"{np(0)} {t.beside()} {np(1)}" + t.on(0.3)
    return f"{np(0)} and {np(1)}" + t.on(0.3)


def relation_to_its(t):
    if not t.two:
        return None
    t.expect["relations"] = [[0, t.relation, 1]]
    return f"{t.np(1)} with {t.np(0)} {POSSESSIVE[t.relation]}" + t.on(0.3)


def relation_there_is(t):
    return t.two and f"{t.beside()} {t.np(1)} there is {t.np(0)}" + t.on(0.3)


def relation_ends(t):
    if t.two and t.relation in END:
        t.expect["relations"] = [[0, t.relation, 1]]
        first, second = END[t.relation]
        return t.pick(f"{first} {t.np(0)}, {second} {t.np(1)}", f"{t.np(0)} {first} and {t.np(1)} {second}") + t.on(0.3)


def relation_has(t):
    if t.differ("shape"):
        words = f"{t.np(0)} and {t.np(1)}. "
        return words + f"{t.the(0).capitalize()} is {t.beside()} {t.the(1)}" + t.on(0.2)


def relation_swapped(t):
    if t.differ("shape"):
        words = f"{t.np(0)} and {t.np(1)}; "
        return words + f"{t.the(1)} is {t.beside(reverse=True)} {t.the(0)}" + t.on(0.2)


def relation_find(t):  # held
    return t.two and f"look {t.beside()} {t.np(1)}: that is where {t.np(0)} sits" + t.on(0.2)


def relation_looking(t):  # held
    if t.two and t.relation in END:
        t.expect["relations"] = [[0, t.relation, 1]]
        turn = {"left of": "from left to right", "above": "from top to bottom"}[t.relation]
        return f"{turn}: {t.np(0)}, {t.np(1)}" + t.on(0.2)


def negation_neither(t):
    if not t.two:
        t.expect["count"] = 1
        t.know(0, "shape")
        x, y = t.random.sample(t.missing(), 2)
        size = t.say(0, "size") + " " if t.maybe(0.4) else ""
        return t.pick(f"{a(size + t.say(0, 'color'))} shape that is neither {a(t.word(x))} nor {a(t.word(y))}",
                      f"one {size}{t.say(0, 'color')} shape. It is not {a(t.word(x))} and not {a(t.word(y))}") + t.on(0.3)


def negation_no(t):
    missing = t.missing()
    if missing:
        t.without(*missing[:1])
        things = f"{t.np(0)} and {t.np(1)}" if t.two else t.np(0)
        return t.pick(f"{things}, but no {t.word(missing[0])}", f"{things}, no {t.word(missing[0])}") + t.on(0.3)


def negation_size(t):
    t.know(0, "size")
    other = "large" if t.things[0]["size"] == "small" else "small"
    one = f"{t.np(0, size=False)} that is not {t.word(other)}"
    if not t.two:
        return one + t.on(0.3)
    return t.pick(f"{one} and {t.np(1)}", f"{t.np(1)} and {one}") + t.on(0.2)


def negation_other(t):
    """two different shapes, none of them a circle; the square is red, the other one is blue"""
    if t.differ("shape"):
        t.expect["count"] = 2
        t.know(0, "shape"), t.know(1, "shape")
        t.without(*t.missing())
        return (f"two different shapes, none of them {a(t.word(t.missing()[0]))}; {t.the(0)} is {t.say(0, 'color')}, "
                f"the other one is {t.say(1, 'color')}")


def negation_ground(t):
    t.expect["background"] = t.scene["background"]
    x, y = t.random.sample([b for b in BACKGROUNDS if b != t.scene["background"]], 2)
    things = f"{t.np(0)} and {t.np(1)}" if t.two else t.np(0)
    return f"{things}; the background is neither {x} nor {y}"


def negation_isnt(t):  # held
    if not t.two:
        t.expect["count"] = 1
        t.know(0, "shape")
        x, y = t.random.sample(t.missing(), 2)
        return f"something {t.say(0, 'color')}, yet it isn't {a(t.word(x))}, and it isn't {a(t.word(y))} either" + t.on(0.3)


def negation_lack(t):  # held
    missing = t.missing()
    if missing:
        t.without(*missing[:1])
        things = f"{t.np(0)} as well as {t.np(1)}" if t.two else t.np(0)
        return f"a scene without any {t.word(missing[0])}: just {things}" + t.on(0.2)


def comparison_colors(t):
    """a large circle and a small square; the larger one is red, the other is blue"""
    if t.differ("size"):
        big = 0 if t.things[0]["size"] == "large" else 1
        things = f"{t.np(0, size=True, color=False)} and {t.np(1, size=True, color=False)}"
        first, second = (("the larger one", big), ("the smaller one", 1 - big))[:: t.pick(1, -1)]
        last = t.pick(second[0], "the other one")
        return f"{things}; {first[0]} is {t.say(first[1], 'color')}, {last} is {t.say(second[1], 'color')}" + t.on(0.2)


def comparison_of_the_two(t):
    if t.differ("size", "shape"):
        big = 0 if t.things[0]["size"] == "large" else 1
        t.know(0, "size"), t.know(1, "size")
        things = f"{t.np(0, size=False)} and {t.np(1, size=False)}"
        return t.pick(f"{things}; {t.the(big)} is the {t.pick('larger', 'bigger')} of the two",
                      f"{things}; {t.the(1 - big)} is the smaller of the two",
                      f"{things}. {t.the(1 - big).capitalize()} is smaller than {t.the(big)}") + t.on(0.2)


def comparison_adjective(t):
    if t.differ("size"):
        t.know(0, "size"), t.know(1, "size")
        comparative = t.pick("larger", "bigger") if t.things[1]["size"] == "large" else "smaller"
        second = t.noun(1, size=False)
        return f"{t.np(0, size=False)} and a {comparative} {second}" + t.on(0.2)


def comparison_same(t):
    if t.two and t.things[0]["size"] == t.things[1]["size"]:
        t.know(0, "size"), t.know(1, "size")
        things = f"{t.np(0, size=False)} and {t.np(1, size=False)}"
        return f"{things}, both {t.say(0, 'size')}" + t.on(0.2)


def comparison_than(t):  # held
    if t.differ("size", "shape"):
        big = 0 if t.things[0]["size"] == "large" else 1
        t.know(0, "size"), t.know(1, "size")
        return (f"{t.the(big)} is {t.say(big, 'color')} and outgrows {t.the(1 - big)}, which is "
                f"{t.say(1 - big, 'color')}") + t.on(0.2)


def reference_first(t):
    if t.differ("shape"):
        size = t.maybe(0.3)
        things = f"{t.np(0, size=size, color=False)} and {t.np(1, size=size, color=False)}"
        x, y = t.say(0, "color"), t.say(1, "color")
        return t.pick(f"{things}; the first is {x}, the second is {y}", f"{things}; the second is {y}, the first is {x}",
                      f"{things}. The first one is {x} and the second one is {y}") + t.on(0.2)


def reference_one_the(t):
    """a circle and a square, one red and one blue; the square is the red one"""
    if t.differ("shape", "color"):
        i = t.pick(0, 1)
        things = f"{t.np(0, size=False, color=False)} and {t.np(1, size=False, color=False)}"
        colors = t.random.sample([t.say(0, "color"), t.say(1, "color")], 2)
        return f"{things}, one {colors[0]} and one {colors[1]}; {t.the(i)} is the {t.say(i, 'color')} one" + t.on(0.2)


def reference_both(t):
    if t.two and t.things[0]["color"] == t.things[1]["color"]:
        things = f"{t.np(0, color=False)} and {t.np(1, color=False)}"
        t.know(1, "color")
        return t.pick(f"{things}, both {t.say(0, 'color')}", f"{things} of the same color, {t.say(0, 'color')}") + t.on(0.2)


def reference_it(t):
    if t.differ("shape"):
        return (f"{t.np(0, color=False)} and {t.np(1, color=False)}. {t.the(1).capitalize()} is {t.say(1, 'color')}; "
                f"{t.the(0)} is {t.say(0, 'color')}") + t.on(0.2)


def reference_same_as(t):
    if t.differ("shape") and t.things[0]["color"] == t.things[1]["color"]:
        t.know(1, "color")
        things = f"{t.np(0)} and {t.np(1, color=False)}"
        return f"{things}; {t.the(1)} has the color of {t.the(0)}" + t.on(0.2)


def reference_former(t):  # held
    if t.differ("shape"):
        things = f"{t.np(0, color=False)} and {t.np(1, color=False)}"
        x, y = t.say(0, "color"), t.say(1, "color")
        return t.pick(f"{things}; the former is {x}, the latter {y}", f"{things}; the latter is {y} and the former {x}") + t.on(0.2)


LEADS = ["this is a picture with {n} {thing} in it", "the picture shows {n} {thing}", "there are {n} {thing} to see",
         "we see {n} {thing}"]
FILLERS = ["nothing else is to be seen", "all of it is plain and flat", "that is all there is", "the rest is empty",
           "it is a simple drawing"]
HELD_FILLERS = ["somebody drew it with great care", "there is no frame around it and no text anywhere",
                "the edges are clean and every shape is filled with one color only",
                "it could hang on the wall of a nursery"]


def long(t):
    """Sentence by sentence: how many, what they are, their sizes and colours, where, the ground."""
    if t.two and not t.differ("shape"):
        return None
    lead = t.pick(*LEADS).replace("there are", "there are" if t.two else "there is")
    first = [lead.format(n=t.count(), thing="things" if t.two else "thing")]
    if t.two:
        first.append(t.pick(f"one of them is {t.np(0, False, False)}, the other one is {t.np(1, False, False)}",
                            f"they are {t.np(0, False, False)} and {t.np(1, False, False)}"))
    else:
        first.append(f"it is {t.np(0, False, False)}")
    facts = []
    for i in range(len(t.things)):
        told = t.pick(["color", "size"], ["size", "color"], ["color"])
        facts.append(f"{t.the(i)} is {' and '.join(t.say(i, fact) for fact in told)}")
    if t.two and t.maybe(0.8):
        facts.append(f"{t.the(0)} is {t.beside()} {t.the(1)}")
    if t.maybe(0.5):
        facts.append(f"the background is {t.ground()}")
    if t.maybe(0.4):
        facts.append(t.pick(*FILLERS))
    t.random.shuffle(facts)
    return sentences(first + facts)


def longer(t):
    """Held: as long, with remarks between that say nothing of the scene, and what isn't there."""
    text = long(t)
    if text:
        parts = text.rstrip(".").split(". ")
        extra = t.random.sample(HELD_FILLERS + FILLERS, 3)
        if t.missing():
            t.without(t.missing()[0])
            extra.append(f"no {t.word(t.missing()[0])} is in it")
        for words in extra:
            parts.insert(t.random.randrange(2, len(parts) + 1), words)
        return sentences(parts)


def sentences(parts):
    return ". ".join(p[0].upper() + p[1:] for p in parts) + "."


SEEN = {
    "short": [short],
    "relation": [relation_to_its, relation_there_is, relation_ends, relation_has, relation_swapped],
    "negation": [negation_neither, negation_no, negation_size, negation_other, negation_ground],
    "comparison": [comparison_colors, comparison_of_the_two, comparison_adjective, comparison_same],
    "reference": [reference_first, reference_one_the, reference_both, reference_it, reference_same_as],
    "long": [long],
}
HELD = {
    "relation": [relation_find, relation_looking],
    "negation": [negation_isnt, negation_lack],
    "comparison": [comparison_than],
    "reference": [reference_former],
    "long": [longer],
}
RICH = ["short"] * 4 + ["relation"] * 2 + ["negation"] * 2 + ["comparison"] * 2 + ["reference"] * 2 + ["long"] * 2


def caption(random, scene, relation, kind, held=False, template=None):
    """Text and expect, or None where no template of the kind suits the scene. held: with words and,
    where the kind has them, templates that no picture's caption uses."""
    templates = [template] if template else list(HELD.get(kind, SEEN[kind]) if held else SEEN[kind])
    random.shuffle(templates)
    for write in templates:
        teller = Teller(random, scene, relation, held)
        text = write(teller)
        if text:
            return text, teller.expect
    return None


def rich_caption(random, scene, relation):
    """As the adapter's pairs have it: any seen kind."""
    while True:
        told = caption(random, scene, relation, random.choice(RICH))
        if told:
            return told

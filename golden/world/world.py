"""The small world: scenes of one or two plain shapes, and how they look.

A scene is what suite.jsonl and every data set of this world write down:

    {"background": "white", "objects": [{"shape": "circle", "color": "red", "size": "small",
                                         "x": 20.25, "y": 31.5, "r": 8.75}, ...]}

x, y is the centre (of a triangle: of its circumscribed circle), y downwards, in pixels of a picture of
64 x 64; r is the radius. Drawing is exact: ref/world/ does the same in C, to the byte.
"""

import numpy as np

SIDE = 64
SHAPES = ("circle", "square", "triangle")
COLORS = {"red": (215, 40, 40), "green": (40, 165, 65), "blue": (45, 85, 220),
          "yellow": (240, 215, 45), "purple": (140, 55, 175), "orange": (245, 130, 30)}
BACKGROUNDS = {"white": (245, 245, 245), "gray": (128, 128, 128), "black": (20, 20, 20)}
SIZES = {"small": (8.0, 9.5), "large": (12.5, 14.5)}
RELATIONS = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# Never shown in any picture that anything is trained on: the split "combination" asks for them.
HELD_OUT = {("triangle", "yellow"), ("square", "purple"), ("circle", "orange")}

SQUARE = 0.875  # half a side, of r
APEX, BASE, WING = 1.25, 0.625, 1.0825  # a triangle's extent above, below and sideways, of r


def inside(shape, dx, dy, r):
    """Whether the point at (dx, dy) from the centre belongs to the shape."""
    if shape == "circle":
        return dx * dx + dy * dy <= r * r
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) <= SQUARE * r
    height = (dy + APEX * r) / ((APEX + BASE) * r)  # 0 at the apex, 1 at the base
    return (height >= 0) & (height <= 1) & (np.abs(dx) <= WING * r * height)


def render(scene):
    """uint8 [64, 64, 3]. A pixel is background + coverage * (color - background), where coverage is the
    share of its 4 x 4 sample points inside; later objects over earlier ones."""
    at = (np.arange(4 * SIDE) + 0.5) / 4
    x, y = at[None, :], at[:, None]
    picture = np.broadcast_to(np.array(BACKGROUNDS[scene["background"]], float), (SIDE, SIDE, 3)).copy()
    for thing in scene["objects"]:
        hit = inside(thing["shape"], x - thing["x"], y - thing["y"], thing["r"])
        coverage = hit.reshape(SIDE, 4, SIDE, 4).sum((1, 3)) / 16
        picture += coverage[..., None] * (np.array(COLORS[thing["color"]], float) - picture)
    return np.floor(picture + 0.5).astype(np.uint8)


def extent(thing):
    """How far it reaches from its centre: left, right, up, down."""
    r = thing["r"]
    return {"circle": (r,) * 4, "square": (SQUARE * r,) * 4,
            "triangle": (WING * r, WING * r, APEX * r, BASE * r)}[thing["shape"]]


def quarter(value):
    return float(round(value * 4) / 4)


def draw_thing(random, held_out=False):
    """A shape, a colour and a size, radius included; held_out: of the unseen combinations only."""
    while True:
        thing = {"shape": random.choice(SHAPES), "color": random.choice(list(COLORS)),
                 "size": random.choice(list(SIZES))}
        if ((thing["shape"], thing["color"]) in HELD_OUT) == held_out:
            break
    thing["r"] = quarter(random.uniform(*SIZES[thing["size"]]))
    return thing


def place(random, objects, relation=None):
    """Give each object its x and y. Two stand beside or above one another, at least 3 pixels apart:
    the relation is that of the first to the second, and holds along one axis clearly."""
    if len(objects) == 1:
        left, right, up, down = extent(objects[0])
        objects[0]["x"] = quarter(random.uniform(max(left + 1, 20), min(SIDE - 1 - right, 44)))
        objects[0]["y"] = quarter(random.uniform(max(up + 1, 20), min(SIDE - 1 - down, 44)))
        return None
    relation = relation or random.choice(list(RELATIONS))
    first, second = objects if relation in ("left of", "above") else objects[::-1]
    sides, along, across = ((0, 1), "x", "y") if relation in ("left of", "right of") else ((2, 3), "y", "x")
    a, b = extent(first), extent(second)
    slack = SIDE - 2 - 3 - (a[sides[0]] + a[sides[1]] + b[sides[0]] + b[sides[1]])
    low, high = sorted(random.uniform(0, slack) for _ in range(2))
    first[along] = quarter(1 + low + a[sides[0]])
    second[along] = quarter(1 + high + a[sides[0]] + a[sides[1]] + 3 + b[sides[0]])
    for thing in objects:
        thing[across] = quarter(random.uniform(27, 37))
    return relation


def describe(objects):
    """What makes two scenes' objects the same to a caption."""
    return tuple((t["size"], t["color"], t["shape"]) for t in objects)


def draw_scene(random, count=None, held_out=False):
    """A scene and the relation of its first object to its second (None with one object). Two objects
    differ in shape or colour. held_out: the first object is of an unseen combination."""
    count = count or random.choice((1, 2, 2))
    while True:
        objects = [draw_thing(random, held_out and i == 0) for i in range(count)]
        if count == 1 or (objects[0]["shape"], objects[0]["color"]) != (objects[1]["shape"], objects[1]["color"]):
            break
    if count == 2 and random.random() < 0.5:
        objects.reverse()
    relation = place(random, objects)
    return {"background": random.choice(list(BACKGROUNDS)), "objects": objects}, relation

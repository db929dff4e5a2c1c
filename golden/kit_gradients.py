"""The kit's gradients: operators run back, each alone (export_gradients.py, torch autograd).

    <case>/{x, w, b, ...}, <case>/dy -> <case>/{dx, dw, db, ...}

dy is the gradient of the operator's result, d<argument> that of sum(y * dy) for the argument. Who trains
with an autograd of his own begins here: where these are right, the training step's gradients are.

Half types have no yardstick: nobody keeps gradients in them.
"""

from unittest import mock

import torch

import export_gradients

TYPES = (torch.float32,)
CASES = {  # of golden/data/grad_<room>: operator, its parameters
    "linear": {
        "tokens": ("linear", {}),
        "plain": ("linear", {}),
        "f16_tiles": ("linear", {}),
    },
    "conv2d": {
        "batch": ("conv2d", {"stride": 1, "padding": [1, 1, 1, 1]}),
        "stride2": ("conv2d", {"stride": 2, "padding": [1, 1, 1, 1]}),
        "vae_down": ("conv2d", {"stride": 2, "padding": [0, 0, 1, 1]}),
        "strips": ("conv2d", {"stride": 1, "padding": [1, 1, 1, 1]}),
        "1x1": ("conv2d", {"stride": 1, "padding": [0, 0, 0, 0]}),
    },
    "norm": {
        "layer/tokens": ("layer_norm", {"eps": 1e-5}),
        "layer/offset": ("layer_norm", {"eps": 1e-5}),
        "group/batch": ("group_norm", {"groups": 6, "eps": 1e-6}),
        "group/rows": ("group_norm", {"groups": 4, "eps": 1e-5}),
        "rms/tokens": ("rms_norm", {"eps": 1e-6}),
    },
    "activation": {
        f"{op}/small": (op, {}) for op in ("silu", "gelu", "gelu_new", "quick_gelu", "geglu", "softmax")
    },
    "attention": {
        "cross": ("attention", {"heads": 3, "mask": "none"}),
        "one_head": ("attention", {"heads": 1, "mask": "none"}),
        "sharp": ("attention", {"heads": 2, "mask": "none"}),
        "keys_only": ("attention", {"heads": 2, "mask": "none"}),
        "grouped": ("attention", {"heads": 4, "kv_heads": 1, "mask": "none"}),
        "causal": ("attention", {"heads": 2, "mask": "causal"}),
        "causal_grouped": ("attention", {"heads": 6, "kv_heads": 2, "mask": "causal"}),
        "own_grouped": ("attention", {"heads": 6, "kv_heads": 3, "mask": "own"}),
        "window": ("attention_window", {"heads": 4, "kv_heads": 2, "window": 5}),
    },
    "rope": {
        "phi": ("rope", {"heads": 3, "rotary": 6, "theta": 10000.0, "position": 3}),
    },
    "embedding": {"f32": ("embedding", {})},
    "resample": {
        "double": ("resize_nearest", {"height": 6, "width": 10}),
        "odd": ("resize_nearest", {"height": 5, "width": 7}),
    },
    "elementwise": {
        "add": ("add", {}),
        "sub": ("sub", {}),
        "mul": ("mul", {}),
        "axpby": ("axpby", {"s": 0.3, "t": -1.7}),
        "add_channels/map": ("add_channels", {}),
        "concat/map": ("concat", {}),
    },
}


class Cases:
    """Stands for a Golden, to which an exporter gives its cases."""

    def __init__(self, name):
        self.name = name

    def case(self, prefix, run):
        name = prefix.removesuffix("/")
        op, parameters = CASES[self.name.removeprefix("grad_")].get(name, (None, None))
        if op:
            case = name if name.split("/")[0] == op else f"{op}/{name.split('/')[-1]}"
            self.group.case(case, run, op=op, upstream=f"torch autograd of {op}", spec="6",
                            parameters=parameters)

    def save(self):
        pass


def gradients(group):
    group.zeros = ["attention/own_grouped/dq", "attention/own_grouped/dk.0"]  # one key each
    with mock.patch.object(Cases, "group", group, create=True), \
            mock.patch.object(export_gradients, "Golden", Cases):
        for room in ("linear", "conv2d", "norms", "activations", "attention", "rope", "embedding", "resample",
                     "elementwise"):
            getattr(export_gradients, room)()

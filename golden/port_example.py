"""A port in ten lines: numpy's activations, judged by the kit.

    python golden/port_example.py golden/kit mine
    ./llmdiff verify --kit golden/kit --port mine --only '^operators/(silu|quick_gelu|gelu_new|softmax)/'
"""

import json
import math
import os
import sys

import numpy as np
from safetensors import safe_open

kit, mine = sys.argv[1:]
os.makedirs(mine, exist_ok=True)
PORT = {
    "silu": lambda x: x / 2 * (1 + np.tanh(x / 2)),
    "quick_gelu": lambda x: x / 2 * (1 + np.tanh(0.851 * x)),
    "gelu_new": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "softmax": lambda x: (e := np.exp(x - x.max(-1, keepdims=True))) / e.sum(-1, keepdims=True),
}
[group] = [g for g in json.load(open(f"{kit}/manifest.json"))["groups"] if g["name"] == "operators"]
given = safe_open(f"{kit}/{group['inputs']}", "np")
np.savez(f"{mine}/operators.npz", **{
    f"{case['name']}/{case['outputs'][0]['name']}": PORT[case["op"]](given.get_tensor(case["name"] + "/x"))
    for case in group["cases"] if case["op"] in PORT})

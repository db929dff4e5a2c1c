"""A port in ten lines: numpy's activations, judged by the kit; in twenty more its AdamW.

    python golden/port_example.py golden/kit mine
    ./llmdiff verify --kit golden/kit --port mine --only '^operators/(silu|quick_gelu|gelu_new|softmax)/'
    ./llmdiff verify --kit golden/kit --port mine --only '^train/adamw/'
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
manifest = json.load(open(f"{kit}/manifest.json"))
groups = {g["name"]: g for g in manifest["groups"]}
group = groups["operators"]
given = safe_open(f"{kit}/{group['inputs']}", "np")
np.savez(f"{mine}/operators.npz", **{
    f"{case['name']}/{case['outputs'][0]['name']}": PORT[case["op"]](given.get_tensor(case["name"] + "/x"))
    for case in group["cases"] if case["op"] in PORT})


def adamw(case, given, weights):
    """Ten steps on the gradients given: clipped by their global norm, decay on matrices only."""
    o, out, norms = case["parameters"], {}, []
    names = [name.removeprefix("grad.1/") for name in case["inputs"] if name.startswith("grad.1/")]
    w = {name: weights.get_tensor(name).astype(np.float64) for name in names}
    m, v = ({name: np.zeros_like(w[name]) for name in names} for _ in "mv")
    for k in range(1, o["steps"] + 1):
        grad = {name: given.get_tensor(f"adamw/grad.{k}/{name}").astype(np.float64) for name in names}
        norms.append(math.sqrt(sum((g * g).sum() for g in grad.values())))
        for name, g in grad.items():
            g *= min(1, o["max_grad_norm"] / (norms[-1] + 1e-6))
            w[name] *= 1 - o["lr"] * (o["weight_decay"] if g.ndim == 2 else 0)
            m[name] = o["beta1"] * m[name] + (1 - o["beta1"]) * g
            v[name] = o["beta2"] * v[name] + (1 - o["beta2"]) * g * g
            root = np.sqrt(v[name] / (1 - o["beta2"] ** k)) + o["eps"]
            w[name] -= o["lr"] * m[name] / (1 - o["beta1"] ** k) / root
        if k in (1, o["steps"]):
            out |= {f"adamw/after.{k}/{name}": w[name].copy() for name in names}
    out |= {f"adamw/adamw/{name}/{short}": x[name] for short, x in (("m", m), ("v", v)) for name in names}
    return out | {"adamw/train/norm": np.array(norms)}


[case] = [c for c in groups["train"]["cases"] if c["name"] == "adamw"]
pack = manifest["packs"][case["pack"]]["path"]
np.savez(f"{mine}/train.npz", **adamw(
    case, safe_open(f"{kit}/{groups['train']['inputs']}", "np"),
    safe_open(f"{kit}/{pack}/{case['parameters']['adapter']}/adapter.safetensors", "np")))

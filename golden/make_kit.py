"""golden/kit: what a port is given, what it should compute, and how exactly (README.md, "The kit").

    python golden/make_kit.py [DIRECTORY] [--ports DIRECTORY]

Without a directory also golden/data/kit_port_*: a part of what upstream itself computes, on which
`make kit-selftest` tries the judge. --ports writes all of that, for every
float type.
"""

import argparse
from pathlib import Path

import diffusers
import torch
import transformers

import export_operators
import kit_gradients
import kit_modules
import kit_train
import kit_walks
from common import DATA, HERE
from kit_format import PORT_TYPES, Kit
from pack_hash import pack_sha256, parts_of

PACKS = {"micro": "micro", "micro_clip": "micro_clip"}
PACKS |= {name: f"data/{name}" for name in kit_modules.LLMS if name != "micro"}

PORT = ("modules", "picture")  # the groups of golden/data/kit_port_*

UPSTREAM = {
    "linear": "torch.nn.functional.linear",
    "conv2d": "torch.nn.functional.pad, conv2d",
    "layer_norm": "torch.nn.functional.layer_norm",
    "group_norm": "torch.nn.functional.group_norm",
    "rms_norm": "transformers LlamaRMSNorm",
    "silu": "torch.nn.functional.silu",
    "gelu": "torch.nn.functional.gelu",
    "gelu_new": "transformers NewGELUActivation",
    "quick_gelu": "transformers QuickGELUActivation",
    "geglu": "diffusers GEGLU, after its projection",
    "softmax": "torch.softmax",
    "attention": "torch.nn.functional.scaled_dot_product_attention",
    "attention_window": "transformers sliding_window_causal_mask_function",
    "rope": "transformers apply_rotary_pos_emb",
    "embedding": "torch.nn.functional.embedding",
    "resize_nearest": "torch.nn.functional.interpolate",
    "concat": "torch.cat",
}
# Larger cases try how our C cuts matrices into tiles; a port has tiles of its own.
LARGEST = 8000
# Products beyond float16; scores that bfloat16 rounds by more than 1.
LEFT_OUT = ["geglu/huge", "softmax/huge"]


def operators(group):
    for room in export_operators.ROOMS:
        for name, op, parameters, run in room():
            seeded = export_operators.seeded("ops_" + room.__name__, name, run)
            inputs, outputs = seeded(0, torch.float64)
            size = sum(x.numel() for x in [*inputs.values(), *outputs.values()])
            if size > LARGEST or name in LEFT_OUT:
                continue
            if op:
                add_operator(group, op, name.split("/")[-1], parameters, seeded)
            else:  # one run of several operators
                for op in outputs:
                    add_operator(group, op, name, parameters.get(op, {}), only(op, seeded))


def add_operator(group, op, name, parameters, run):
    group.case(f"{op}/{name}", run, op=op, upstream=UPSTREAM.get(op, f"torch, {op}"), spec="6",
               parameters=parameters)


def only(op, run):
    def one(seed, dtype):
        inputs, outputs = run(seed, dtype)
        unary = op in ("scale", "channels_last", "channels_first")
        return {"x": inputs["a"]} if unary else inputs, {"y": outputs[op]}

    return one


def main(directory):
    kit = Kit(directory, made_by="golden/make_kit.py",
              versions={"torch": torch.__version__.split("+")[0], "diffusers": diffusers.__version__,
                        "transformers": transformers.__version__},
              packs={name: {"path": "../" + path, "sha256": pack_sha256(parts_of(HERE / path))}
                     for name, path in PACKS.items()})
    operators(kit.group("operators", "operators"))
    kit_modules.modules(kit.group("modules", "modules"))
    kit_walks.walks(kit)
    kit_gradients.gradients(kit.group("gradients", "operators", kit_gradients.TYPES))
    kit_train.training(kit.group("train", "train", kit_train.TYPES))
    kit.save()
    return kit


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--ports", type=Path)
    a = parser.parse_args()
    kit = main(a.directory or HERE / "kit")
    if a.directory is None:
        for dtype in (torch.float32, torch.bfloat16):
            kit.save_port(DATA / f"kit_port_{str(dtype)[6:]}", dtype, PORT)
    for dtype in PORT_TYPES if a.ports else ():
        kit.save_port(a.ports / str(dtype)[6:], dtype)

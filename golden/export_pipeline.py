"""Whole pictures on micro: the walk from ids to image, Eq. 9 in every cross-attention.

golden/data/pipeline_<case>.safetensors, names of the spec's section 8:

    ids, uncond/ids                                             [N] int64  input
    latents/0, sampler/noise.{i}, [uncond/]alg1/eps.{t}, [uncond/]alg1/c.3 input: all noise
    [uncond/]adapter/phi_c, [uncond/]alg1/c.0, latents/{i}, unet/{i}/..eps, image, ...

Case `whole` holds every activation of evaluation 0; the others the trajectory, and of evaluation 0
what Eq. 9 does. The metadata have steps, cfg_scale, eta, adapter and settings of each.

Cases ddpm .. dpm++2m are the other samplers, from the same scheduler_config.json.

The yardstick is over prompts of the same length, and noise, of 8 seeds.
"""

import json
import re

import torch

from common import HERE, Golden
from export_llm import some_ids
from f64 import precision
from hooks import Trace
from llmdiff_torch import draw_noise, generate, load_pack, prompt_ids

MICRO = HERE / "micro"
PROMPT, NEGATIVE = "a red circle", "two dogs"
DOWN, MID = ("down_blocks.0.attentions.0.transformer_blocks.0.attn2",
             "mid_block.attentions.0.transformer_blocks.0.attn2")
WALK = ("steps", "cfg_scale", "eta")
PLAIN = dict(adapter="adapter", settings={}, negative="", steps=3, cfg_scale=7.5, eta=0.0,
             height=16, width=16, whole=False, sampler=None)
CASES = {
    "whole": dict(whole=True),
    "eta": dict(eta=0.7, steps=4, negative=NEGATIVE, height=12, width=20),
    "odd_unguided": dict(cfg_scale=1.0, height=10, width=14, settings={"noise": False}),
    "odd_eta": dict(eta=0.7, height=14, width=18, cfg_scale=3.0),
    "tau_c": dict(adapter="adapter_c", height=12, width=10, negative=NEGATIVE),
    "tau_c_rms_normal": dict(adapter="adapter_c", steps=2,
                             settings={"normalize": "rms", "init": "normal"}),
    "shared": dict(adapter="adapter_shared", height=10, width=12),
    "layers": dict(steps=2, settings={"layers": [DOWN, MID], "noise": False}),
    "shared_layers": dict(adapter="adapter_shared", steps=2, settings={"layers": [MID]}),
    "original_only": dict(steps=2, settings={"a1": 1.0, "b1": 0.0, "a2": 0.0, "b2": 0.0}),
    "added_only": dict(steps=2, settings={"a1": 0.0, "a2": 1.0}),
    "ddpm": dict(sampler="ddpm", height=10, width=12),
    "pndm": dict(sampler="pndm", steps=4, height=8, width=8),  # 13 evaluations
    "euler": dict(sampler="euler", height=10, width=12),
    "euler_a": dict(sampler="euler_a", height=10, width=12),
    "dpm++2m": dict(sampler="dpm++2m", steps=4, height=10, width=12),
    "scalars": dict(steps=2, settings={"a1": 0.6, "b1": -0.3, "a2": 1.1, "b2": 0.2}),
}


def kept(name, case):
    """Which activations of a trace a golden holds."""
    if case["whole"] and not re.match("unet/[1-9]", name):
        return True
    return re.fullmatch(r"(uncond/)?(alg1/c\.0|adapter/.*)|latents/.*|image|unet/\d+/(.*eps|t)"
                        r"|unet/0/cond/.*\.attn2/.*", name)


def walker(name, case):
    """run(seed, dtype, force) -> (inputs, every activation) of a picture."""
    walk = {k: case[k] for k in WALK}
    packs = {}

    def run(seed, dtype, force=None):
        if dtype not in packs:
            packs[dtype] = load_pack(MICRO, dtype, MICRO / case["adapter"], case["settings"],
                                     case["sampler"])
        pack = packs[dtype]
        ids = prompt_ids(pack, PROMPT, case["negative"], case["cfg_scale"])
        if seed > 0:
            ids = {prefix: some_ids(tokens[0], len(tokens), 512, name, prefix, seed)
                   for prefix, tokens in ids.items()}
        noise = draw_noise(pack, ids, seed, case["steps"], case["eta"], case["height"], case["width"])
        trace = Trace(force)
        with precision(dtype):
            generate(pack, ids, noise, see=trace, **walk)
        return {prefix + "ids": torch.tensor(tokens) for prefix, tokens in ids.items()} | noise, trace

    return run


def pipeline(name, case):
    golden, go = Golden("pipeline_" + name), walker(name, case)

    def run(seed, dtype):
        inputs, trace = go(seed, dtype)
        return inputs, {k: v for k, v in trace.items() if k not in inputs and kept(k, case)}

    golden.case("", run)
    golden.inputs_in_traces()
    golden.metadata |= {k: case[k] for k in WALK}
    golden.metadata |= {"adapter": case["adapter"], "settings": json.dumps(case["settings"]),
                        "prompt": PROMPT, "negative": case["negative"], "seed": 0}
    if case["sampler"]:
        golden.metadata["sampler"] = case["sampler"]
    golden.save()


if __name__ == "__main__":
    for name, case in CASES.items():
        pipeline(name, PLAIN | case)

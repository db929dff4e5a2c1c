"""The plain Stable Diffusion baseline on micro: CLIP's encoding, the U-Net without adapter.

golden/data/baseline_<case>.safetensors: what diffusers' own StableDiffusionPipeline computes from
micro_clip's tokenizer and text encoder and micro's U-Net, DDIM and VAE; names of the spec's section 8:

    ids, uncond/ids               [77] int64  input: padded with the end token
    latents/0                     input
    [uncond/]text/<path>          embeddings, each layer with its self_attn and mlp, final_layer_norm:
                                  what the cross-attentions read
    unet/{i}/sample, t, time_embedding, unet/{i}/{cond,uncond}/<path>, unet/{i}/{cond,uncond}/eps,
    unet/{i}/eps, latents/{i}, vae/decoder/<path>, image

Case `whole` holds every activation of evaluation 0; the others the trajectory. The metadata have prompt,
negative, steps, cfg_scale, clip_skip of each; sizes are multiples of 8, as diffusers wants them. It applies clip_skip to the prompt alone, never to
the negative prompt. Its line for that still says text_encoder.text_model, which transformers 5 no
longer has; here it gets one.

The yardstick is over other prompts and other noise.
"""

import functools
import random
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

import hooks
from common import HERE, Golden, draw, generator
from f64 import precision
from llmdiff_torch import loaded
from pack import captions

MICRO, MICRO_CLIP = HERE / "micro", HERE / "micro_clip"
LONG = "Three small red circles above a large blue square, next to the sad old elephant's café in 1984; "
PLAIN = dict(prompt="a red circle", negative="", steps=3, cfg_scale=7.5, clip_skip=0,
             height=16, width=16, whole=False)
CASES = {
    "whole": dict(whole=True),
    "skip": dict(clip_skip=1, negative="two dogs", height=8, width=24),
    "skip_all": dict(clip_skip=3, steps=2, height=8, width=8),
    "unguided": dict(cfg_scale=1.0, steps=4, height=16, width=8),
    "cut": dict(prompt=LONG * 3, negative=LONG, steps=2, cfg_scale=2.5, height=8, width=16),
}


@functools.cache
def load(dtype):
    clip = loaded(CLIPTextModel, MICRO_CLIP / "text_encoder", dtype, "dtype", attn_implementation="eager")
    clip.text_model = SimpleNamespace(final_layer_norm=clip.final_layer_norm)
    unet = loaded(UNet2DConditionModel, MICRO / "unet", dtype)
    vae = loaded(AutoencoderKL, MICRO / "vae", dtype)
    with precision(dtype):
        scheduler = DDIMScheduler.from_pretrained(MICRO / "scheduler")
    pipeline = StableDiffusionPipeline(
        vae=vae, unet=unet, scheduler=scheduler, text_encoder=clip,
        tokenizer=CLIPTokenizer.from_pretrained(MICRO_CLIP / "tokenizer"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def upstream(pipeline, case, noise, force=None):
    """The named tensors of one run of the pipeline class."""
    guided = case["cfg_scale"] != 1
    with hooks.trace(pipeline, force=force) as seen:
        pipeline(prompt=case["prompt"], negative_prompt=case["negative"] if guided else None,
                 num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"],
                 clip_skip=case["clip_skip"], height=case["height"], width=case["width"],
                 latents=noise[None], output_type="pt")
    return seen


def kept(name, case):
    if case["whole"]:
        assert case["clip_skip"] == 0  # upstream computes the layers it skips, too
        return not name.startswith("unet/") or name.startswith("unet/0/") or name.endswith(("/t", "eps"))
    return (name.startswith("latents/") or name == "image" or name.endswith("final_layer_norm")
            or name.startswith("unet/") and name.endswith(("/t", "eps")))


def walker(name, case):
    """run(seed, dtype, force) -> (inputs, every activation) of the pipeline class."""
    others = list(captions())

    def run(seed, dtype, force=None):
        pipeline, mine = load(dtype), case
        r = random.Random(f"baseline {name} {seed}")
        if seed > 0:
            mine = case | {"prompt": r.choice(others), "negative": r.choice(others)}
        factor = pipeline.vae_scale_factor
        noise = draw(generator("baseline", name, seed), pipeline.unet.config.in_channels,
                     case["height"] // factor, case["width"] // factor, dtype=dtype)
        with torch.no_grad(), precision(dtype):
            seen = upstream(pipeline, mine, noise, force)
        return {k: v for k, v in seen.items() if k.endswith("ids")} | {"latents/0": noise}, seen

    return run


def baseline(name, case):
    golden, go = Golden("baseline_" + name), walker(name, case)

    def run(seed, dtype):
        inputs, seen = go(seed, dtype)
        return inputs, {k: v for k, v in seen.items() if k not in inputs and kept(k, case)}

    golden.case("", run)
    golden.inputs_in_traces()
    golden.metadata |= {k: v for k, v in case.items() if k not in ("height", "width", "whole")}
    golden.save()


if __name__ == "__main__":
    with torch.no_grad():
        for name, case in CASES.items():
            baseline(name, PLAIN | case)

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

import random
from types import SimpleNamespace
from unittest import mock

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from common import HERE, Golden, draw, generator
from export_clip import observed as clip_modules
from f64 import lift, lifted, precision
from llmdiff_torch import NAMED, observed
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


def load(dtype):
    widen = lift if dtype == torch.float64 else lambda model: model
    clip = widen(CLIPTextModel.from_pretrained(
        MICRO_CLIP / "text_encoder", dtype=torch.float32, attn_implementation="eager"))
    clip.text_model = SimpleNamespace(final_layer_norm=clip.final_layer_norm)
    unet = widen(UNet2DConditionModel.from_pretrained(MICRO / "unet", torch_dtype=torch.float32))
    vae = widen(AutoencoderKL.from_pretrained(MICRO / "vae", torch_dtype=torch.float32))
    with lifted() if dtype == torch.float64 else precision(dtype):
        scheduler = DDIMScheduler.from_pretrained(MICRO / "scheduler")
    pipeline = StableDiffusionPipeline(
        vae=vae, unet=unet, scheduler=scheduler, text_encoder=clip,
        tokenizer=CLIPTokenizer.from_pretrained(MICRO_CLIP / "tokenizer"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def upstream(pipeline, case, noise):
    """The named tensors of one run of the pipeline class, in any order."""
    seen = {}
    guided = case["cfg_scale"] != 1
    clip, unet, vae = pipeline.text_encoder, pipeline.unet, pipeline.vae
    prompts = iter(["", "uncond/"])
    now = SimpleNamespace(prefix="", i=0)

    def encoding(module, args, kwargs):
        now.prefix = next(prompts)
        seen[now.prefix + "ids"] = args[0][0]

    # Where layers are skipped, final_layer_norm runs twice; the last time is the one that counts.
    def text(path):
        def record(module, args, output):
            output = output[0] if isinstance(output, tuple) else output
            seen[f"{now.prefix}text/{path}"] = output[0].clone()

        return record

    def named_batch(path):
        def record(module, args, output):
            for b, side in enumerate(["uncond", "cond"] if guided else ["cond"]):
                seen[f"unet/{now.i}/{side}/{path}"] = output[b].clone()

        return record

    def evaluation(module, args, kwargs, output):
        sample, t = args[:2]
        seen[f"unet/{now.i}/sample"] = sample[0].clone()
        seen[f"unet/{now.i}/t"] = t.to(sample.dtype)
        named_batch("eps")(module, args, output[0])

    def step(eps, t, z, **kwargs):
        seen[f"unet/{now.i}/eps"] = eps[0].clone()
        result = type(pipeline.scheduler).step(pipeline.scheduler, eps, t, z, eta=0.0, return_dict=False)
        now.i += 1
        seen[f"latents/{now.i}"] = result[0][0].clone()
        return result

    def decode(z, **kwargs):
        output = type(vae).decode(vae, z, **kwargs)
        seen["image"] = output[0][0].clone()
        return output

    handles = [clip.register_forward_pre_hook(encoding, with_kwargs=True)]
    for path in [*clip_modules(clip), "final_layer_norm"]:
        handles.append(clip.get_submodule(path).register_forward_hook(text(path)))
    for path, module in unet.named_modules():
        if isinstance(module, NAMED) or path in ("conv_in", "mid_block", "conv_out"):
            handles.append(module.register_forward_hook(named_batch(path)))
    handles.append(unet.register_forward_hook(evaluation, with_kwargs=True))
    handles.append(unet.time_embedding.register_forward_hook(
        lambda module, args, output: seen.__setitem__(f"unet/{now.i}/time_embedding", output[0].clone())))
    see_vae = lambda path, output: seen.__setitem__("vae/decoder/" + path, output.clone())
    with (observed(vae.decoder, see_vae), mock.patch.object(vae, "decode", decode),
          mock.patch.object(pipeline.scheduler, "step", step, create=True)):
        pipeline(prompt=case["prompt"], negative_prompt=case["negative"] if guided else None,
                 num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"],
                 clip_skip=case["clip_skip"], height=case["height"], width=case["width"],
                 latents=noise[None], output_type="pt")
    for handle in handles:
        handle.remove()
    return seen


def kept(name, case):
    if case["whole"]:
        assert case["clip_skip"] == 0  # upstream computes the layers it skips, too
        return not name.startswith("unet/") or name.startswith("unet/0/") or name.endswith(("/t", "eps"))
    return (name.startswith("latents/") or name == "image" or name.endswith("final_layer_norm")
            or name.startswith("unet/") and name.endswith(("/t", "eps")))


def baseline(name, case, pipelines):
    golden = Golden("baseline_" + name)
    others = list(captions())

    def run(seed, dtype):
        pipeline, mine = pipelines[dtype], case
        r = random.Random(f"baseline {name} {seed}")
        if seed > 0:
            mine = case | {"prompt": r.choice(others), "negative": r.choice(others)}
        factor = pipeline.vae_scale_factor
        noise = draw(generator("baseline", name, seed), pipeline.unet.config.in_channels,
                     case["height"] // factor, case["width"] // factor, dtype=dtype)
        with torch.no_grad(), precision(dtype):
            seen = upstream(pipeline, mine, noise)
        inputs = {k: v for k, v in seen.items() if k.endswith("ids")} | {"latents/0": noise}
        outputs = {k: v for k, v in seen.items() if k not in inputs and kept(k, case)}
        return inputs, outputs

    golden.case("", run)
    golden.inputs_in_traces()
    golden.metadata |= {k: v for k, v in case.items() if k not in ("height", "width", "whole")}
    golden.save()


if __name__ == "__main__":
    with torch.no_grad():
        pipelines = {dtype: load(dtype) for dtype in (torch.float64, torch.float32)}
        for name, case in CASES.items():
            baseline(name, PLAIN | case, pipelines)

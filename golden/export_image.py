"""Pictures from pictures: image to image, inpainting, the VAE in tiles, Pillow's resize.

golden/data/image_<case>.safetensors: what diffusers' own StableDiffusionImg2ImgPipeline and
StableDiffusionInpaintPipeline compute on micro, Eq. 9 in every cross-attention:

    ids, uncond/ids, [uncond/]alg1/eps.{t}    input, as in pipeline_*
    image_in [H, W, 3], mask_in [H, W]        input, bytes; the mask is white where it is repainted
    vae/encoder/noise, latents/0, sampler/noise.{i}
                                              input: all noise, unit variance, in order of drawing.
                                              Inpainting draws once more after latents/0 (to encode
                                              the masked picture), and uses that nowhere
    vae/encoder/conv_out                      of the picture
    latents/image                             z_0 = scaling_factor * the posterior's sample
    unet/0/sample                             where the walk starts
    unet/{i}/t, unet/{i}/eps, latents/{i + 1} evaluation i; latents after the blend with the picture
    image                                     before rounding

golden/data/tiled_<vae>.safetensors: micro's VAE, and data/vae_sd, after enable_tiling(); names as in
vae_*. The metadata hold what upstream makes of the config's sample_size, and each run's tiles.

golden/data/resize.safetensors: in.<case>, out.<case>, bytes, by Image.resize(..., LANCZOS) of
Pillow 13, which resizes columns before rows where H - h > 2 (W - w) and H > h (earlier Pillows never
do); gray.in, gray.out by Image.convert("L").

Upstream's float32 island here is VaeImageProcessor.pil_to_numpy: byte / 255 by numpy.
"""

import functools
import json
from contextlib import ExitStack, contextmanager
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders import vae as upstream_vae
from diffusers.pipelines.stable_diffusion import (pipeline_stable_diffusion_img2img,
                                                  pipeline_stable_diffusion_inpaint)
from diffusers.schedulers import scheduling_ddim
from PIL import Image

from common import DATA, HERE, Golden, draw, generator
from export_llm import some_ids
from f64 import lift, precision
from hooks import Trace
from llmdiff_torch import draw_noise, encode, generate, load_pack, prompt_ids

MICRO = HERE / "micro"
PROMPT, NEGATIVE = "a red circle", "two gray dogs"
PLAIN = dict(steps=5, strength=0.6, cfg_scale=7.5, eta=0.0, height=16, width=16, masked=False)
CASES = {
    "img2img": dict(),
    "img2img_eta": dict(strength=0.5, eta=0.5, height=12, width=20),
    "img2img_full": dict(strength=1.0, steps=3),
    "inpaint": dict(strength=1.0, steps=4, masked=True),
    "inpaint_part": dict(strength=0.7, height=12, width=20, masked=True),
    "inpaint_eta": dict(strength=0.9, steps=3, eta=0.6, height=10, width=14, masked=True),
}
WALK = ("steps", "strength", "cfg_scale", "eta")
DRAWING = (upstream_vae, pipeline_stable_diffusion_img2img, pipeline_stable_diffusion_inpaint,
           scheduling_ddim)


# ---- inputs --------------------------------------------------------------------------------------


def random_bytes(gen, *shape):
    return torch.randint(0, 256, shape, generator=gen, dtype=torch.uint8)


def smooth_picture(gen, height, width):
    small = Image.fromarray(random_bytes(gen, 4, 5, 3).numpy())
    return torch.from_numpy(np.array(small.resize((width, height), Image.Resampling.BICUBIC)))


def gray_mask(gen, height, width):
    """Black and white halves, and between them, and strewn in, gray levels around the threshold."""
    x, y = torch.arange(width), torch.arange(height)[:, None]
    slope = 127.5 + 60 * (x - width / 2 + 0.5) + 40 * y / height
    mask = slope.round().clamp(0, 255).to(torch.uint8)
    near = torch.randint(126, 130, (height, width), generator=gen, dtype=torch.uint8)
    return torch.where(torch.rand(height, width, generator=gen) < 0.4, near, mask)


# ---- upstream's pipelines ------------------------------------------------------------------------


@contextmanager
def given_noise(draws, dtype):
    """randn_tensor gives these, one after the other; all are used up."""
    left = list(draws)

    def next_one(shape, generator=None, device=None, dtype=dtype, layout=None):
        noise = left.pop(0)
        assert noise.shape == tuple(shape)[1:], (noise.shape, shape)
        return noise.to(dtype)[None]

    with ExitStack() as stack:
        for module in DRAWING:
            stack.enter_context(mock.patch.object(module, "randn_tensor", next_one))
        yield
    assert not left, f"{len(left)} draws were not used"


def wide_pixels(images):
    images = images if isinstance(images, list) else [images]
    return np.stack([np.asarray(image).astype(np.float64) / 255.0 for image in images])


def upstream(pack, contexts, noise, init, mask, *, steps, strength, cfg_scale, eta):
    """The named tensors of one run of the pipeline class. contexts: what the cross-attentions read."""
    seen = {}
    kind = StableDiffusionImg2ImgPipeline if mask is None else StableDiffusionInpaintPipeline
    pipeline = kind(vae=pack.vae, unet=pack.unet, scheduler=pack.scheduler, text_encoder=None,
                    tokenizer=None, safety_checker=None, feature_extractor=None,
                    requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)

    def once(name, value):
        seen.setdefault(name, value.detach().clone())

    def evaluation(module, args, output):
        i = sum(name.endswith("/t") for name in seen)
        once(f"unet/{i}/t", args[1].to(args[0].dtype))
        if i == 0:
            once("unet/0/sample", args[0][0])

    @functools.wraps(pack.scheduler.step)  # the pipeline reads its signature: eta, generator
    def step(eps, t, z, **kwargs):
        i = sum(name.endswith("/eps") for name in seen)
        once(f"unet/{i}/eps", eps[0])
        return type(pack.scheduler).step(pack.scheduler, eps, t, z, **kwargs)

    def add_noise(z_0, *args):
        once("latents/image", z_0[0])
        return type(pack.scheduler).add_noise(pack.scheduler, z_0, *args)

    def decode(z, **kwargs):
        output = type(pack.vae).decode(pack.vae, z, **kwargs)
        once("image", output[0][0])
        return output

    def after(pipeline, i, t, tensors):
        once(f"latents/{i + 1}", tensors["latents"][0])
        return {}

    hooks = [
        pack.vae.encoder.register_forward_hook(
            lambda module, args, output: once("vae/encoder/conv_out", output[0])),
        pack.unet.register_forward_hook(evaluation),
    ]
    draws = [noise["vae/encoder/noise"], noise["latents/0"]]
    masked = {}
    if mask is not None:
        draws.append(torch.full(draws[0].shape, 1e30, dtype=torch.float64))  # nothing may depend on it
        height, width = init.shape[:2]
        masked = dict(mask_image=Image.fromarray(mask.numpy()), height=height, width=width)
    draws += [x for name, x in noise.items() if name.startswith("sampler/")]
    pixels = wide_pixels if pack.dtype == torch.float64 else VaeImageProcessor.pil_to_numpy
    with (given_noise(draws, pack.dtype),
          mock.patch.object(VaeImageProcessor, "pil_to_numpy", staticmethod(pixels)),
          mock.patch.object(pack.scheduler, "step", step, create=True),
          mock.patch.object(pack.scheduler, "add_noise", add_noise, create=True),
          mock.patch.object(pack.vae, "decode", decode)):
        pipeline(image=Image.fromarray(init.numpy()), prompt_embeds=contexts[""],
                 negative_prompt_embeds=contexts["uncond/"], strength=strength,
                 num_inference_steps=steps, guidance_scale=cfg_scale, eta=eta,
                 callback_on_step_end=after, output_type="pt", **masked)
    for hook in hooks:
        hook.remove()
    return seen


def inputs_of(pack, name, case, seed):
    """ids, noise, picture and mask (or None); seed 0 has the prompts, others as many random ids."""
    ids = prompt_ids(pack, PROMPT, NEGATIVE)
    if seed > 0:
        ids = {prefix: some_ids(tokens[0], len(tokens), 512, name, prefix, seed)
               for prefix, tokens in ids.items()}
    assert len(ids[""]) == len(ids["uncond/"]), "diffusers wants prompts of one length"
    height, width, masked = (case[k] for k in ("height", "width", "masked"))
    noise = draw_noise(pack, ids, seed, case["steps"], case["eta"], height, width,
                       strength=case["strength"], masked=masked)
    gen = generator("image", name, seed)
    init = smooth_picture(gen, height, width)
    return ids, noise, init, gray_mask(gen, height, width) if masked else None


def contexts_of(pack, ids, noise):
    return {prefix: encode(pack, tokens, {k[len(prefix):]: v for k, v in noise.items()
                                          if k.startswith(prefix + "alg1/")})
            for prefix, tokens in ids.items()}


def walker(name, case):
    """run(seed, dtype, force) -> (inputs, every activation) by the readable port, which does what the
    pipeline classes do (check_port.py)."""
    packs = {}

    def run(seed, dtype, force=None):
        if dtype not in packs:
            packs[dtype] = load_pack(MICRO, dtype)
        pack = packs[dtype]
        ids, noise, init, mask = inputs_of(pack, name, case, seed)
        trace = Trace(force)
        with precision(dtype):
            generate(pack, ids, noise, init=init, mask=mask, see=trace, **{k: case[k] for k in WALK})
        return inputs_by_name(ids, noise, init, mask), trace

    return run


def inputs_by_name(ids, noise, init, mask):
    inputs = {prefix + "ids": torch.tensor(tokens) for prefix, tokens in ids.items()}
    return inputs | noise | {"image_in": init} | ({} if mask is None else {"mask_in": mask})


def image_case(name, case):
    golden = Golden("image_" + name)
    walk = {k: case[k] for k in WALK}
    packs = {dtype: load_pack(MICRO, dtype) for dtype in (torch.float64, torch.float32)}

    def run(seed, dtype):
        pack = packs[dtype]
        ids, noise, init, mask = inputs_of(pack, name, case, seed)
        with torch.no_grad(), precision(dtype):
            outputs = upstream(pack, contexts_of(pack, ids, noise), noise, init, mask, **walk)
        return inputs_by_name(ids, noise, init, mask), outputs

    golden.case("", run)
    golden.inputs_in_traces()
    for not_traced in ("image_in", "mask_in"):
        golden.metadata.pop("yardstick:" + not_traced, None)
    golden.metadata |= walk | {"adapter": "adapter", "settings": json.dumps({}), "prompt": PROMPT,
                               "negative": NEGATIVE, "seed": 0, "diffusers": diffusers.__version__}
    golden.save()


# ---- the VAE in tiles ----------------------------------------------------------------------------
# micro: sample_size 16, tiles of 8x8 latents every 6; sd: 64, the same in latents.

VAES = {"micro": MICRO / "vae", "sd": DATA / "vae_sd"}
TILED = {  # latents to decode, pixels to encode
    "micro": {
        "decode/ragged": (10, 15),     # 2x3 tiles, the last 4 high and 3 wide
        "decode/slivers": (7, 13),     # the last ones narrower than the blend
        "decode/one_row": (6, 11),
        "decode/within": (8, 9),       # tiles that add nothing but a blend
        "decode/small": (8, 8),        # fits: not tiled
        "encode/ragged": (20, 30),
        "encode/slivers": (26, 14),
        "encode/one_column": (30, 12),
        "encode/small": (16, 16),
    },
    "sd": {
        "decode/ragged": (7, 10),
        "encode/ragged": (56, 72),
    },
}


def tiled(name, runs):
    golden = Golden("tiled_" + name)
    load = lambda: AutoencoderKL.from_pretrained(VAES[name], torch_dtype=torch.float32)
    vaes = {torch.float64: lift(load()), torch.float32: load()}
    for vae in vaes.values():
        vae.enable_tiling()
    S, L = vae.tile_sample_min_size, vae.tile_latent_min_size
    overlap = vae.tile_overlap_factor
    golden.metadata |= {
        "tile_sample_min_size": S, "tile_latent_min_size": L, "tile_overlap_factor": overlap,
        "decode_step": int(L * (1 - overlap)), "decode_blend": int(S * overlap),
        "decode_limit": S - int(S * overlap),
        "encode_step": int(S * (1 - overlap)), "encode_blend": int(L * overlap),
        "encode_limit": L - int(L * overlap)}

    for run_name, (height, width) in runs.items():
        decoding = run_name.startswith("decode")
        tiles = {}

        def run(seed, dtype):
            vae = vaes[dtype]
            gen = generator("tiled", name, run_name, seed)
            tiles[dtype] = 0

            def count(module, args):
                tiles[dtype] += 1

            part = vae.decoder if decoding else vae.encoder
            hook = part.register_forward_pre_hook(count)
            with torch.no_grad(), precision(dtype):
                if decoding:
                    z = draw(gen, vae.config.latent_channels, height, width, dtype=dtype)
                    image = vae.decode(z[None] / vae.config.scaling_factor).sample[0]
                    result = {"latents": z}, {"image": image}
                else:
                    x = draw(gen, vae.config.in_channels, height, width, std=0.5, dtype=dtype)
                    posterior = vae.encode(x[None]).latent_dist
                    result = {"picture": x}, {"mean": posterior.mean[0], "logvar": posterior.logvar[0]}
            hook.remove()
            return result

        golden.case(run_name + "/", run)
        golden.metadata[run_name + "/tiles"] = tiles[torch.float64]
    golden.save()


# ---- Pillow's resize -----------------------------------------------------------------------------

RESIZES = {  # (H, W) -> (h, w)
    "down": ((24, 32), (12, 16)),
    "down_far": ((37, 41), (3, 4)),
    "down_odd": ((19, 23), (13, 16)),
    "up": ((6, 8), (24, 32)),
    "up_odd": ((7, 5), (16, 17)),
    "up_a_little": ((15, 15), (16, 16)),
    "wider_lower": ((20, 9), (11, 24)),          # columns first: H - h = 9 > -30
    "columns_first": ((36, 16), (24, 12)),       # 12 > 8
    "columns_first_barely": ((17, 14), (10, 11)),  # 7 > 6
    "rows_first_barely": ((18, 15), (10, 11)),   # 8 = 8
    "narrower_higher": ((9, 20), (24, 11)),
    "only_width": ((11, 17), (11, 8)),
    "only_height": ((17, 11), (8, 11)),
    "same": ((5, 6), (5, 6)),
    "from_one_pixel": ((1, 1), (7, 5)),
    "to_one_pixel": ((13, 9), (1, 1)),
    "from_one_row": ((1, 14), (4, 6)),
    "to_one_column": ((12, 10), (12, 1)),
    "black_and_white": ((21, 26), (16, 16)),     # overshoots at both ends
    "gray": ((14, 22), (16, 20)),                # [H, W]
}


def resize():
    golden = Golden("resize")
    golden.metadata["pillow"] = Image.__version__
    for case, ((H, W), (h, w)) in RESIZES.items():
        gen = generator("resize", case)
        x = random_bytes(gen, H, W) if case == "gray" else random_bytes(gen, H, W, 3)
        if case == "black_and_white":
            x = (x >= 128).to(torch.uint8) * 255
        out = Image.fromarray(x.numpy()).resize((w, h), Image.Resampling.LANCZOS)
        golden.put("in." + case, x)
        golden.put("out." + case, torch.from_numpy(np.array(out)))
    x = random_bytes(generator("gray"), 24, 24, 3)
    golden.put("gray.in", x)
    golden.put("gray.out", torch.from_numpy(np.array(Image.fromarray(x.numpy()).convert("L"))))
    golden.save()


if __name__ == "__main__":
    for name, case in CASES.items():
        image_case(name, PLAIN | case)
    for name, runs in TILED.items():
        tiled(name, runs)
    resize()

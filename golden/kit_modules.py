"""The kit's modules: each alone, upstream's class with given inputs.

Rows are [L, C], maps [C, h, w], one element of a batch, as in a trace. Inputs are drawn (std 1, seeded
by the case's name); a case's parameters and paths say which part of which pack computes it:

    tokenizer            parameters text, kind   -> ids
    llm/embedding        ids -> y
    llm/block            x -> s_sentence, s_word, x_next          path model.layers.{l}
    algorithm1/step      c, s_sentence, s_word, before, eps, g, h -> c_next, delta
    algorithm1/rms       c -> y
    adapter/phi          c -> y
    eq9                  q, phi_c, c -> original, added, f        path of an attn2
    unet/time_embedding  t -> y
    unet/resnet          x, temb -> y          temb: the time embedding, before its silu
    unet/conv_in, unet/downsampler   x -> y
    unet/upsampler       x -> y                parameters height, width: of y
    unet/block           x, phi_c, c -> attn1, attn2, ff, y       a BasicTransformerBlock, with Eq. 9
    unet/transformer     x, phi_c, c -> y      the Transformer2DModel around it: norm, proj_in, residual
    unet/conv_out        x -> y                with conv_norm_out and silu before it
    guidance             cond, uncond -> y     parameters cfg_scale
    sampler              latents, eps.{i}, noise.{i} -> timesteps, sample.{i}, latents.{i}
                         latents is unit noise; sample.{i} what the U-Net is shown in evaluation i,
                         latents.{i + 1} what it leaves. The schedule is the pack's, read by each class
    vae/resnet, vae/attention, vae/conv_in, vae/downsampler, vae/upsampler, vae/conv_out   x -> y
    vae/decode           latents -> y          parameters tiled
    vae/encode           x, noise -> mean, logvar, z0             parameters tiled
    clip/text_encoder    ids -> embeddings, encoder.layers..., final_layer_norm   parameters clip_skip
    image/from_pixels    rgb (bytes [H, W, 3]) -> y [3, H, W]
    image/to_pixels      x [3, H, W] -> rgb
"""

import functools
from unittest import mock

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D

import export_baseline
import hooks
from common import DATA, HERE, draw, generator
from export_clip import encode as clip_encode
from f64 import precision
from llmdiff_torch import (DEFAULTS, algorithm1_step, attn2_paths, draws, load_llm, load_pack,
                           load_scheduler, normalized, picture, step, timesteps_of, to_pixels)
from kit_format import TYPES
from modeldir import recording

MICRO = HERE / "micro"
ADAPTERS = ("adapter", "adapter_c", "adapter_shared")
LLMS = ("micro", "llama_plain", "llama_grouped", "llama_linear", "mistral_window", "phi_gqa")


packs = functools.cache(lambda dtype, adapter: load_pack(MICRO, dtype, MICRO / adapter))


def pack(dtype, adapter="adapter"):
    return packs(dtype, adapter)


@functools.cache
def llm(name, dtype):
    return load_llm(MICRO / "llm" if name == "micro" else DATA / name, dtype)


def modules(group):
    for dtype in (torch.float64, *TYPES):  # nothing is loaded within precision(dtype)
        for adapter in ADAPTERS:
            pack(dtype, adapter)
        for name in LLMS:
            llm(name, dtype)
        export_baseline.load(dtype)
    for cases in (tokenizers, llm_blocks, algorithm1_steps, eq9, unet, guidance, samplers, vae,
                  text_encoder, images):
        cases(group)


def add(group, name, module, draws, compute, upstream, spec, pack="micro", **fields):
    """draws(gen) -> inputs; compute(dtype, inputs in that type) -> outputs."""

    def run(seed, dtype):
        inputs = draws(generator("kit", name, seed))
        mine = {k: x.to(dtype) if x.is_floating_point() else x for k, x in inputs.items()}
        with torch.no_grad(), precision(dtype):
            return inputs, compute(dtype, mine)

    fields.setdefault("parameters", {})
    group.case(name, run, module=module, pack=pack, upstream=upstream, spec=spec, **fields)


# ---- prompt to encoding --------------------------------------------------------------------------

TEXTS = {
    "prompt": "a red circle to the left of a blue square",
    "empty": "",
    "spaces": "  two   dogs,\tthree\n\n cats  ",
    "bytes": "ein Café für 12 Kühe — 日本語, 🐄🎨",
    "special": "<|endoftext|> it's 1984's \"end\"",
}


def tokenizers(group):
    tokenizer = pack(torch.float32).tokenizer
    clip = export_baseline.load(torch.float32).tokenizer
    for name, text in TEXTS.items():
        ids = [tokenizer.bos_token_id] + tokenizer(text, add_special_tokens=False).input_ids
        padded = clip(text, padding="max_length", max_length=77, truncation=True).input_ids
        for kind, pack_name, path, ids, upstream in (
                ("byte_level", "micro", "llm", ids, "transformers PreTrainedTokenizerFast, bos first"),
                ("clip", "micro_clip", "tokenizer", padded, "transformers CLIPTokenizer, padded to 77")):
            group.case(f"tokenizer/{kind}/{name}", lambda seed, dtype: ({}, {"ids": torch.tensor(ids)}),
                       module="tokenizer", pack=pack_name, path=path, upstream=upstream, spec="6",
                       parameters={"text": text, "kind": kind})


def llm_blocks(group):
    for name in LLMS:
        config = llm(name, torch.float32).config
        D, T, N = config.hidden_size, config.num_hidden_layers, 11
        kind = type(llm(name, torch.float32)).__name__
        some = lambda gen: {"ids": torch.randint(config.vocab_size, (N,), generator=gen)}
        add(group, f"llm/embedding/{name}", "llm/embedding", some,
            lambda dtype, i: {"y": llm(name, dtype).get_input_embeddings()(i["ids"])},
            f"transformers {kind}, embed_tokens", "3", name, path="model.embed_tokens")
        for l in range(T):

            def block(dtype, i):
                model = llm(name, dtype)
                rows = i["x"][None]
                tables = model.model.rotary_emb(rows, torch.arange(N)[None])
                hidden = torch.full((N, N), float("-inf"), dtype=dtype)
                window = getattr(config, "sliding_window", None) or N
                outside = torch.ones(N, N).triu(1) + torch.ones(N, N).tril(-window)
                causal = torch.where(outside > 0, hidden, 0)[None, None].to(dtype)
                own = hidden.fill_diagonal_(0)[None, None]
                go = lambda mask: model.model.layers[l](
                    rows, attention_mask=mask, position_embeddings=tables)[0]
                y, alone = go(causal), go(own)
                return {"s_sentence": y - i["x"], "s_word": alone - i["x"], "x_next": y}

            add(group, f"llm/block/{name}.{l}", "llm/block", lambda gen: {"x": draw(gen, N, D)}, block,
                f"transformers {kind}, one layer; s_word: each row alone", "2", name,
                path=f"model.layers.{l}", parameters={"l": l, "t": T - l})


STEPS = {
    "plain": {"noise": False},
    "noise": {},
    "difference": {"score": "difference"},
    "no_word": {"word_score": False, "noise": False},
    "no_word_difference": {"word_score": False, "score": "difference", "noise": False},
    "scales": {"g_scale": 0.7, "h_scale": 2.5},
}


def algorithm1_steps(group):
    N, D = 5, 12
    for name, settings in STEPS.items():
        settings = DEFAULTS | settings

        def some(gen):
            keys = ["c", "s_sentence"] + ["s_word"] * settings["word_score"]
            keys += ["before"] * (settings["score"] == "difference") + ["eps"] * settings["noise"]
            numbers = {"g": 0.4 + 1.2 * torch.rand(1, generator=gen), "h": 0.1 * torch.rand(1, generator=gen)}
            if not settings["noise"]:
                del numbers["h"]
            return {k: draw(gen, N, D) for k in keys} | {k: v.double() for k, v in numbers.items()}

        def compute(dtype, i):
            before = i.get("before", torch.zeros_like(i["c"]))
            c, delta = algorithm1_step(i["c"], i["s_sentence"], i.get("s_word"), before, i["g"],
                                       i.get("h"), i.get("eps"), settings)
            return {"delta": delta, "c_next": c}

        shown = {k: settings[k] for k in ("score", "word_score", "noise", "g_scale", "h_scale")}
        add(group, f"algorithm1/step/{name}", "algorithm1/step", some, compute,
            "golden/llmdiff_torch.py algorithm1_step", "3", None, parameters=shown)

    def with_zeros(gen):
        c = draw(gen, N, D, std=7)
        c[2] = 0
        return {"c": c}

    add(group, "algorithm1/rms", "algorithm1/rms", with_zeros, lambda dtype, i: {"y": normalized(i["c"])},
        "golden/llmdiff_torch.py normalized", "3", None)
    add(group, "adapter/phi", "adapter/phi", lambda gen: {"c": draw(gen, 7, 40)},
        lambda dtype, i: {"y": pack(dtype).adapter.phi(i["c"])}, "torch.nn.Linear", "4",
        path="phi", parameters={"adapter": "adapter"})


# ---- Eq. 9 and the U-Net -------------------------------------------------------------------------


def context_of(i):
    return torch.cat([i["phi_c"], i["c"]], -1)[None]


def some_context(gen, N):
    return {"phi_c": draw(gen, N, 28), "c": draw(gen, N, 40)}


def eq9(group):
    for adapter in ADAPTERS:
        for path in attn2_paths(pack(torch.float32).unet):
            C = pack(torch.float32).unet.get_submodule(path).to_q.in_features

            def compute(dtype, i):
                attn = pack(dtype, adapter).unet.get_submodule(path)
                seen = hooks.Trace()
                with mock.patch.object(attn.processor, "see", lambda name, x: seen(name, x[0])[None]):
                    attn(i["q"][None], encoder_hidden_states=context_of(i))
                return {name.split("/")[-1]: x for name, x in seen.items() if not name.endswith("/q")}

            add(group, f"eq9/{adapter}/{path}", "eq9",
                lambda gen: {"q": draw(gen, 15, C)} | some_context(gen, 6), compute,
                "golden/llmdiff_torch.py Eq9 in diffusers Attention", "4", path=path,
                parameters={"adapter": adapter})


def unet(group):
    model = pack(torch.float32).unet
    temb = model.time_embedding.linear_2.out_features
    of = lambda dtype, path: pack(dtype).unet.get_submodule(path)

    def one(path, module, draws, compute, upstream, name=None, **more):
        add(group, f"unet/{name or path}", module, draws, compute, upstream, "6", path=path, **more)

    for t in (999.0, 1.0, 261.25):

        def embedding(dtype, i):
            u = pack(dtype).unet
            return {"y": u.time_embedding(u.time_proj(torch.tensor([t])).to(dtype))[0]}

        # A given t: its type is nobody's to round.
        one("time_embedding", "unet/time_embedding", lambda gen: {}, embedding,
            "diffusers Timesteps, TimestepEmbedding", f"time_embedding/{t:g}", parameters={"t": t})
    one("conv_in", "unet/conv_in", lambda gen: {"x": draw(gen, 4, 5, 7)},
        lambda dtype, i: {"y": of(dtype, "conv_in")(i["x"][None])[0]}, "torch.nn.Conv2d")
    # What holds other modules comes after them: the first that is wrong is then the one to look at.
    for path, m in sorted(model.named_modules(), key=lambda named: isinstance(named[1], Transformer2DModel)):
        alone = lambda dtype, i: {"y": of(dtype, path)(i["x"][None])[0]}
        if isinstance(m, ResnetBlock2D):
            one(path, "unet/resnet",
                lambda gen: {"x": draw(gen, m.in_channels, 5, 7), "temb": draw(gen, temb)},
                lambda dtype, i: {"y": of(dtype, path)(i["x"][None], i["temb"][None])[0]},
                "diffusers ResnetBlock2D")
        elif isinstance(m, Downsample2D):
            for h, w in ((6, 8), (5, 7)):
                one(path, "unet/downsampler", lambda gen: {"x": draw(gen, m.channels, h, w)}, alone,
                    "diffusers Downsample2D", f"{path}/{h}x{w}")
        elif isinstance(m, Upsample2D):
            for h, w in ((6, 8), (5, 7)):
                one(path, "unet/upsampler", lambda gen: {"x": draw(gen, m.channels, 3, 4)},
                    lambda dtype, i: {"y": of(dtype, path)(i["x"][None], (h, w))[0]},
                    "diffusers Upsample2D", f"{path}/{h}x{w}", parameters={"height": h, "width": w})
        elif isinstance(m, Transformer2DModel):
            one(path, "unet/transformer",
                lambda gen: {"x": draw(gen, m.in_channels, 3, 5)} | some_context(gen, 6),
                lambda dtype, i: {"y": of(dtype, path)(
                    i["x"][None], encoder_hidden_states=context_of(i), return_dict=False)[0][0]},
                "diffusers Transformer2DModel with Eq. 9", parameters={"adapter": "adapter"})
        elif isinstance(m, BasicTransformerBlock):

            def block(dtype, i):
                with recording(of(dtype, path), ["attn1", "attn2", "ff"]) as seen:
                    y = of(dtype, path)(i["x"][None], encoder_hidden_states=context_of(i))
                return seen | {"y": y[0]}

            C = m.norm1.normalized_shape[0]
            one(path, "unet/block", lambda gen: {"x": draw(gen, 15, C)} | some_context(gen, 6), block,
                "diffusers BasicTransformerBlock with Eq. 9", parameters={"adapter": "adapter"})

    def last(dtype, i):
        u = pack(dtype).unet
        return {"y": u.conv_out(u.conv_act(u.conv_norm_out(i["x"][None])))[0]}

    one("conv_out", "unet/conv_out", lambda gen: {"x": draw(gen, 16, 5, 7)}, last,
        "torch.nn.GroupNorm, SiLU, Conv2d")


# ---- sampling ------------------------------------------------------------------------------------


def guidance(group):
    for s in (7.5, 0.5):
        add(group, f"guidance/{s:g}", "guidance",
            lambda gen: {k: draw(gen, 4, 3, 5) for k in ("cond", "uncond")},
            lambda dtype, i: {"y": i["uncond"] + s * (i["cond"] - i["uncond"])},
            "diffusers StableDiffusionPipeline", "6", None, parameters={"cfg_scale": s})


SAMPLERS = {  # name: sampler, steps, eta
    "ddpm": ("ddpm", 4, 0.0),
    "ddim": ("ddim", 4, 0.0),
    "ddim_eta": ("ddim", 4, 0.7),
    "pndm": ("pndm", 4, 0.0),
    "euler": ("euler", 4, 0.0),
    "euler_a": ("euler_a", 4, 0.0),
    "dpm++2m": ("dpm++2m", 5, 0.0),
}


def samplers(group):
    shape = (4, 3, 5)
    for name, (sampler, steps, eta) in SAMPLERS.items():
        with precision(torch.float64):
            scheduler = load_scheduler(MICRO / "scheduler", sampler)
            times = timesteps_of(scheduler, steps, None)
            noisy = [draws(scheduler, t, eta) for t in times]

        def some(gen):
            inputs = {"latents": draw(gen, *shape)}
            inputs |= {f"eps.{i}": draw(gen, *shape) for i in range(len(times))}
            return inputs | {f"noise.{i}": draw(gen, *shape) for i, n in enumerate(noisy) if n}

        def compute(dtype, i):
            s = load_scheduler(MICRO / "scheduler", sampler)
            timesteps = timesteps_of(s, steps, None)
            out = {"timesteps": timesteps.to(torch.float64)}
            z = i["latents"] * s.init_noise_sigma
            for k, t in enumerate(timesteps):
                out[f"sample.{k}"] = s.scale_model_input(z, t)
                z = step(s, i[f"eps.{k}"], t, z, eta, i.get(f"noise.{k}"))
                out[f"latents.{k + 1}"] = z
            return out

        add(group, f"sampler/{name}", "sampler", some, compute, f"diffusers {type(scheduler).__name__}",
            "6", path="scheduler", parameters={"sampler": sampler, "steps": steps, "eta": eta})


# ---- VAE, CLIP, pixels ---------------------------------------------------------------------------


def vae(group):
    of = lambda dtype, path: pack(dtype).vae.get_submodule(path)

    def one(path, module, draws, compute, upstream, **more):
        add(group, f"vae/{path}", f"vae/{module}", draws, compute, upstream, "6", path=path, **more)

    model = pack(torch.float32).vae
    # What holds other modules comes after them: the first that is wrong is then the one to look at.
    for path, m in sorted(model.named_modules(), key=lambda named: isinstance(named[1], Transformer2DModel)):
        alone = lambda dtype, i: {"y": of(dtype, path)(i["x"][None])[0]}
        if path in ("encoder.conv_in", "decoder.conv_in"):
            one(path, "conv_in", lambda gen: {"x": draw(gen, m.in_channels, 5, 7)}, alone, "torch.nn.Conv2d")
        elif path in ("encoder.conv_out", "decoder.conv_out"):

            def last(dtype, i):
                part = of(dtype, path.split(".")[0])
                return {"y": part.conv_out(part.conv_act(part.conv_norm_out(i["x"][None])))[0]}

            one(path, "conv_out", lambda gen: {"x": draw(gen, m.in_channels, 5, 7)}, last,
                "torch.nn.GroupNorm, SiLU, Conv2d")
        elif isinstance(m, ResnetBlock2D):
            one(path, "resnet", lambda gen: {"x": draw(gen, m.in_channels, 5, 7)},
                lambda dtype, i: {"y": of(dtype, path)(i["x"][None], None)[0]}, "diffusers ResnetBlock2D")
        elif isinstance(m, Attention):
            one(path, "attention", lambda gen: {"x": draw(gen, m.to_q.in_features, 3, 5)}, alone,
                "diffusers Attention, residual included")
        elif isinstance(m, Downsample2D):
            one(path, "downsampler", lambda gen: {"x": draw(gen, m.channels, 6, 9)}, alone,
                "diffusers Downsample2D, padded at bottom and right")
        elif isinstance(m, Upsample2D):
            one(path, "upsampler", lambda gen: {"x": draw(gen, m.channels, 3, 5)}, alone,
                "diffusers Upsample2D")

    for name, tiled, latents, pixels in (("", False, (5, 3), (7, 9)), ("_tiled", True, (9, 11), (18, 22))):

        def decode(dtype, i):
            p = pack(dtype).vae
            p.use_tiling = tiled
            y = p.decode(i["latents"][None] / p.config.scaling_factor).sample[0]
            p.use_tiling = False
            return {"y": y}

        def encode(dtype, i):
            p = pack(dtype).vae
            p.use_tiling = tiled
            posterior = p.encode(i["x"][None]).latent_dist
            p.use_tiling = False
            mean, logvar = posterior.mean[0], posterior.logvar[0]
            z0 = p.config.scaling_factor * (mean + posterior.std[0] * i["noise"])
            return {"mean": mean, "logvar": logvar, "z0": z0}

        h, w = (n // 2 for n in pixels)
        add(group, f"vae/decode{name}", "vae/decode", lambda gen: {"latents": draw(gen, 4, *latents)},
            decode, "diffusers AutoencoderKL.decode(latents / scaling_factor)", "6",
            parameters={"tiled": tiled})
        add(group, f"vae/encode{name}", "vae/encode",
            lambda gen: {"x": draw(gen, 3, *pixels, std=0.5), "noise": draw(gen, 4, h, w)}, encode,
            "diffusers AutoencoderKL.encode; z0 = scaling_factor (mean + std noise)", "6",
            parameters={"tiled": tiled})


def text_encoder(group):
    tokenizer = export_baseline.load(torch.float32).tokenizer
    for skip in (0, 1):

        def some(gen):
            words = torch.randint(600, (9,), generator=gen).tolist()
            end = [tokenizer.eos_token_id] * (77 - 10)
            return {"ids": torch.tensor([tokenizer.bos_token_id] + words + end)}

        def compute(dtype, i):
            clip, seen = export_baseline.load(dtype).text_encoder, hooks.Trace()
            with hooks.watch_text_encoder(clip, seen):
                clip_encode(clip, i["ids"], skip)
            left_out = [f"encoder.layers.{clip.config.num_hidden_layers - 1 - k}" for k in range(skip)]
            return {name.removeprefix("text/"): x for name, x in seen.items()
                    if not any(layer in name for layer in left_out)}

        add(group, f"clip/text_encoder/skip_{skip}", "clip/text_encoder", some, compute,
            "transformers CLIPTextModel", "6", "micro_clip", path="text_encoder",
            parameters={"clip_skip": skip})


def images(group):
    add(group, "image/from_pixels", "image/from_pixels",
        lambda gen: {"rgb": torch.randint(0, 256, (4, 6, 3), generator=gen).to(torch.uint8)},
        lambda dtype, i: {"y": picture(i["rgb"], dtype)}, "diffusers VaeImageProcessor.preprocess", "6",
        None)

    def near_bytes(gen):
        """Numbers that no rounding brings near a tie, and some beyond -1 .. 1."""
        level = torch.randint(-20, 276, (3, 4, 6), generator=gen) + 0.3 * torch.rand(3, 4, 6, generator=gen)
        return {"x": (level.double() / 127.5 - 1).float().double()}

    # Upstream makes float32 of an image first, whatever its type.
    add(group, "image/to_pixels", "image/to_pixels", near_bytes,
        lambda dtype, i: {"rgb": to_pixels(i["x"].float()).long()},
        "diffusers VaeImageProcessor.postprocess", "6", None)

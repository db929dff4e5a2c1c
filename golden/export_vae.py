"""VAEs of the Stable Diffusion 1.x kind: small diffusers AutoencoderKL and what they compute.

golden/data/vae_<model>/             config.json and weights, encoder included, as upstream saves them
golden/data/vae_<model>.safetensors  one or more runs of it, decoder and encoder:

    <run>/latents               [latent_channels, h, w]  input, as the sampler leaves it
    <run>/image                 [out_channels, H, W]     decode(latents / scaling_factor)
    <run>/vae/post_quant_conv   [latent_channels, h, w]  where there is one
    <run>/vae/decoder/<path>    [C, h, w]: conv_in, each resnet, mid_block.attentions.0, mid_block,
                                each upsampler, conv_out (equals image)

    <run>/picture               [in_channels, H, W]      input
    <run>/vae/encoder/<path>    [C, h, w]: conv_in, each resnet and downsampler,
                                mid_block.attentions.0, mid_block, conv_out
    <run>/vae/quant_conv        [2 latent_channels, h, w]  where there is one
    <run>/mean, <run>/logvar    [latent_channels, h, w]  of the posterior, logvar after its clamp
    <run>/noise                 [latent_channels, h, w]  input
    <run>/z0                    [latent_channels, h, w]  a sample, as the sampler takes it:
                                scaling_factor (mean + exp(logvar / 2) noise)

Decoding is StableDiffusionPipeline's: it divides by scaling_factor and reads none of shift_factor,
latents_mean, latents_std. All norms have eps 1e-6, whatever the config says; the mid block's
attention has one head as wide as the map, biases on q, k and v, and adds its input. In encoding both
clamps of logvar, -30 and 20, occur in one_level.

Fields of AutoencoderKL.__init__ (diffusers 0.42.1) with the class's defaults:

  varied here   in_channels 3, out_channels 3, down_block_types (DownEncoderBlock2D),
                up_block_types (UpDecoderBlock2D), block_out_channels (64), layers_per_block 1,
                latent_channels 4, norm_num_groups 32, scaling_factor 0.18215, use_quant_conv True,
                use_post_quant_conv True, mid_block_add_attention True
  no effect     sample_size 32, force_upcast True (about float16 only)
  other models  act_fn "silu", shift_factor None, latents_mean None, latents_std None
"""

import inspect
from types import SimpleNamespace
from unittest import mock

import diffusers.models.autoencoders.vae as upstream
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from safetensors.torch import load_file, save_file

from common import DATA, Golden, draw, generator
from f64 import precision
from modeldir import randomise, recording, reload, shorten_config, store, widen

# The keys of vae/config.json of Stable Diffusion 1.5, written by diffusers 0.6.
SD15_KEYS = """act_fn block_out_channels down_block_types in_channels latent_channels
layers_per_block norm_num_groups out_channels sample_size up_block_types""".split()


def model(about, dtype, levels, decode, encode, old=False, **config):
    config.update(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    return SimpleNamespace(
        about=about, dtype=dtype, decode=decode, encode=encode, old=old, config=config
    )


MODELS = {
    "sd": model(
        "Stable Diffusion 1.5's in miniature",
        torch.float16,
        4,
        decode=(2, 3),
        encode=(19, 13),  # 19x13, 9x6, 4x3, 2x1
        block_out_channels=(8, 16, 16, 24),
        layers_per_block=2,
        norm_num_groups=4,
        sample_size=64,
    ),
    "plain": model(
        "no attention, no quantisation convolutions, other channels and scaling",
        torch.bfloat16,
        2,
        decode=(5, 3),
        encode=(6, 9),
        in_channels=2,
        out_channels=1,
        block_out_channels=(6, 10),
        latent_channels=3,
        norm_num_groups=2,
        scaling_factor=0.13025,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    ),
    "old": model(
        "config.json and names of attention parameters as in Stable Diffusion 1.5's own file",
        torch.float32,
        2,
        decode=(3, 4),
        encode=(4, 7),
        old=True,
        block_out_channels=(12, 8),
        norm_num_groups=4,
    ),
    "upstream": model(
        "the config of diffusers' own pipeline tests (hf-internal-testing/tiny-stable-diffusion)",
        torch.float16,
        2,
        decode=(4, 3),
        encode=(8, 6),
        block_out_channels=(4, 8),
        norm_num_groups=2,
    ),
    "one_level": model(
        "one level: no sampler; more layers",
        torch.float32,
        1,
        decode=(1, 7),
        encode=(5, 1),
        block_out_channels=(8,),
        layers_per_block=3,
        norm_num_groups=2,
        scaling_factor=0.5,
    ),
}

OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def age(path):
    """Makes the directory one that diffusers 0.6 wrote: fewer keys, other names in the attention."""
    file = path / "diffusion_pytorch_model.safetensors"
    state = {}
    for name, x in load_file(file).items():
        if ".attentions." in name:
            for new, old in OLD_NAMES.items():
                name = name.replace(f".{new}.", f".{old}.")
        state[name] = x
    save_file(state, file, metadata={"format": "pt"})
    shorten_config(path, SD15_KEYS)


def observed(part):
    kinds = (ResnetBlock2D, Attention, Downsample2D, Upsample2D)
    return [
        path
        for path, module in part.named_modules()
        if path in ("conv_in", "mid_block", "conv_out") or isinstance(module, kinds)
    ]


def decoding(name, vaes, h, w):
    def go(seed, dtype):
        vae = vaes[dtype]
        gen = generator("vae", name, "decode", seed)
        z = draw(gen, vae.config.latent_channels, h, w, dtype=dtype)
        with torch.no_grad(), precision(dtype), recording(vae.decoder, observed(vae.decoder)) as seen:
            with recording(vae, ["post_quant_conv"] if vae.post_quant_conv else []) as before:
                image = vae.decode(z[None] / vae.config.scaling_factor).sample[0]
        outputs = {"vae/" + k: v for k, v in before.items()}
        outputs.update({"vae/decoder/" + k: v for k, v in seen.items()})
        return {"latents": z}, dict(outputs, image=image)

    return go


def encoding(name, vaes, h, w):
    def go(seed, dtype):
        vae = vaes[dtype]
        gen = generator("vae", name, "encode", seed)
        picture = draw(gen, vae.config.in_channels, h, w, std=0.5, dtype=dtype)
        with torch.no_grad(), precision(dtype), recording(vae.encoder, observed(vae.encoder)) as seen:
            with recording(vae, ["quant_conv"] if vae.quant_conv else []) as after:
                posterior = vae.encode(picture[None]).latent_dist
            noise = draw(gen, *posterior.mean[0].shape, dtype=dtype)
            with mock.patch.object(upstream, "randn_tensor", lambda *_, **__: noise[None]):
                z0 = vae.config.scaling_factor * posterior.sample()[0]
        clamped = {-30.0, 20.0} <= set(posterior.logvar.flatten().tolist())
        assert clamped or name != "one_level" or seed > 0
        outputs = {"vae/encoder/" + k: v for k, v in seen.items()}
        outputs.update({"vae/" + k: v for k, v in after.items()})
        outputs.update(mean=posterior.mean[0], logvar=posterior.logvar[0], z0=z0)
        return {"picture": picture, "noise": noise}, outputs

    return go


def main():
    fields = inspect.signature(AutoencoderKL.__init__).parameters
    told = __doc__.split("Fields of")[1].replace(",", " ").split()
    assert not [f for f in fields if f != "self" and f not in told]
    for name, m in MODELS.items():
        path = DATA / f"vae_{name}"
        made = randomise(AutoencoderKL(**m.config), "vae", name)
        if name == "one_level":
            with torch.no_grad():  # log-variances beyond their clamp on both sides
                made.quant_conv.weight[4:] *= 100
        state = store(made, path, m.dtype)
        if m.old:
            age(path)
        loaded = reload(path, state)
        vaes = {d: widen(loaded, state, d) for d in (torch.float64, torch.float32)}
        golden = Golden(f"vae_{name}")
        golden.metadata["about"] = m.about
        golden.case("decode/", decoding(name, vaes, *m.decode))
        golden.case("encode/", encoding(name, vaes, *m.encode))
        golden.save()


if __name__ == "__main__":
    main()

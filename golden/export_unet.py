"""U-Nets of the Stable Diffusion 1.x kind: small diffusers UNet2DConditionModels and what they compute.

golden/data/unet_<model>/             config.json and weights, as upstream's save_pretrained writes them
golden/data/unet_<model>.safetensors  one or more runs of it:

    <run>/sample   [in_channels, h, w]      input
    <run>/t        scalar, may be fractional
    <run>/context  [N, cross_attention_dim] encoder_hidden_states
    <run>/eps      [out_channels, h, w]     output
    <run>/time_embedding                    [dim], output of unet.time_embedding
    <run>/<module path>                     spec, section 8, without "unet/{i}/cond/": maps [C, h, w]
                                            of conv_in, each resnet, down- and upsampler, mid_block
                                            and conv_out; rows [hw, C] of each transformer block and
                                            of its attn1, attn2 (both before the residual) and ff

Runs marked brief hold only time_embedding and eps. The metadata say what each model is for
("about"). Truth: the upstream class in float64, f64.py lifting the sinusoid of the time embedding;
the float32 yardstick takes the same sinusoid, rounded once (spec, section 7).

Which fields of UNet2DConditionModel.__init__ (diffusers 0.42.1) decide the arithmetic, with the
class's defaults, which hold wherever config.json leaves a key out:

  varied here   in_channels 4, out_channels 4, center_input_sample False, flip_sin_to_cos True,
                freq_shift 0, down_block_types (CrossAttnDownBlock2D x3, DownBlock2D),
                mid_block_type UNetMidBlock2DCrossAttn (UNetMidBlock2D: one resnet; None: nothing),
                up_block_types (UpBlock2D, CrossAttnUpBlock2D x3; independent of the down blocks),
                block_out_channels (320, 640, 1280, 1280), layers_per_block 2 (or one per level),
                downsample_padding 1 (0: a zero row and column at the far end instead),
                mid_block_scale_factor 1, norm_num_groups 32, norm_eps 1e-5 (resnets and
                conv_norm_out; a transformer's group norm always has 1e-6, its layer norms 1e-5),
                cross_attention_dim 1280, transformer_layers_per_block 1 (or one per level; mid: the
                last), attention_head_dim 8 (or one per level; despite its name the NUMBER of heads),
                use_linear_projection False, time_embedding_dim None (4 * block_out_channels[0]),
                conv_in_kernel 3, conv_out_kernel 3
  no effect     sample_size None, dropout 0.0 (at inference), upcast_attention False (torch's fused
                attention does not look at it), resnet_skip_time_act False,
                resnet_out_scale_factor 1.0, cross_attention_norm None,
                mid_block_only_cross_attention None (these four reach other block types only),
                addition_embed_type_num_heads 64, addition_time_embed_dim None,
                projection_class_embeddings_input_dim None (without the embeddings they belong to)
  other models  act_fn "silu" (= "swish"), only_cross_attention False,
                reverse_transformer_layers_per_block None, encoder_hid_dim None,
                encoder_hid_dim_type None, num_attention_heads None (upstream refuses it too),
                dual_cross_attention False, class_embed_type None, num_class_embeds None,
                class_embeddings_concat False, addition_embed_type None,
                resnet_time_scale_shift "default", time_embedding_type "positional",
                time_embedding_act_fn None, timestep_post_act None, time_cond_proj_dim None,
                attention_type "default"
"""

import inspect
from types import SimpleNamespace

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from common import DATA, Golden, draw, generator
from f64 import precision
from modeldir import randomise, recording, reload, shorten_config, store, widen

TIMES = (999, 0, 1, 500, 261.25)

CROSS_DOWN, DOWN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, UP = "CrossAttnUpBlock2D", "UpBlock2D"

# The keys of unet/config.json of Stable Diffusion 1.5, written by diffusers 0.6.
SD15_KEYS = """act_fn attention_head_dim block_out_channels center_input_sample cross_attention_dim
down_block_types downsample_padding flip_sin_to_cos freq_shift in_channels layers_per_block
mid_block_scale_factor norm_eps norm_num_groups out_channels sample_size up_block_types""".split()


def model(about, dtype, runs, keys=None, **config):
    return SimpleNamespace(about=about, dtype=dtype, runs=runs, keys=keys, config=config)


def run(h, w, tokens, t, brief=False):
    return SimpleNamespace(h=h, w=w, tokens=tokens, t=t, brief=brief)


MODELS = {
    "sd": model(
        "Stable Diffusion 1.5 in miniature",
        torch.float16,
        {
            "full": run(8, 16, 7, 999),
            "odd": run(5, 7, 2, 261.25),  # 5x7, 3x4, 2x2, 1x1
            "odd_halves": run(10, 14, 100, 1, brief=True),  # 10x14, 5x7, 3x4, 2x2
            "one_token": run(8, 8, 1, 0, brief=True),
            "long": run(16, 8, 100, 500, brief=True),
        },
        sample_size=16,
        block_out_channels=(16, 24, 32, 32),
        attention_head_dim=8,
        norm_num_groups=8,
        cross_attention_dim=20,
    ),
    "linear_projection": model(
        "as Stable Diffusion 2: linear proj_in and proj_out, heads per level, upcast_attention",
        torch.bfloat16,
        {"full": run(4, 12, 5, 500), "one_token": run(6, 5, 1, 261.25, brief=True)},
        block_out_channels=(8, 16, 24),
        down_block_types=(CROSS_DOWN, CROSS_DOWN, DOWN),
        up_block_types=(UP, CROSS_UP, CROSS_UP),
        attention_head_dim=(1, 2, 4),
        norm_num_groups=4,
        cross_attention_dim=12,
        use_linear_projection=True,
        upcast_attention=True,
    ),
    "choices": model(
        "every number that has a default set to another",
        torch.float32,
        {"full": run(6, 4, 3, 261.25), "zero": run(3, 4, 2, 0, brief=True)},
        in_channels=5,
        out_channels=3,
        center_input_sample=True,
        flip_sin_to_cos=False,
        freq_shift=1,
        down_block_types=(CROSS_DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, CROSS_UP),
        block_out_channels=(6, 9),
        layers_per_block=(1, 2),
        mid_block_scale_factor=1.7,
        norm_num_groups=3,
        norm_eps=1e-2,
        cross_attention_dim=7,
        transformer_layers_per_block=(2, 3),
        attention_head_dim=3,
        time_embedding_dim=20,
        conv_in_kernel=5,
        conv_out_kernel=1,
    ),
    "one_level": model(
        "one level without samplers, one layer; config.json with Stable Diffusion 1.5's keys only",
        torch.float32,
        {"full": run(3, 5, 4, 1)},
        keys=SD15_KEYS,
        down_block_types=(CROSS_DOWN,),
        up_block_types=(CROSS_UP,),
        block_out_channels=(8,),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=1,
        cross_attention_dim=10,
    ),
    "unmirrored": model(
        "up blocks that don't mirror the down blocks, a mid block without attention, "
        "downsample_padding 0 on odd sizes",
        torch.float16,
        {"full": run(7, 11, 3, 999), "even": run(4, 8, 2, 500, brief=True)},
        down_block_types=(DOWN, CROSS_DOWN, DOWN),
        mid_block_type="UNetMidBlock2D",
        up_block_types=(CROSS_UP, UP, CROSS_UP),
        block_out_channels=(8, 16, 12),
        layers_per_block=1,
        downsample_padding=0,
        attention_head_dim=(2, 4, 3),
        norm_num_groups=4,
        cross_attention_dim=10,
    ),
    "upstream": model(
        "the config of diffusers' own pipeline tests (hf-internal-testing/tiny-stable-diffusion)",
        torch.float16,
        {"full": run(8, 8, 5, 1), "odd": run(5, 8, 77, 999, brief=True)},
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(4, 8),
        down_block_types=(DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, UP),
        cross_attention_dim=32,
        norm_num_groups=2,
    ),
    "no_mid": model(
        "as the distilled BK-SDM-Tiny: no mid block, cross-attention on the last level",
        torch.bfloat16,
        {"full": run(8, 6, 6, 0), "odd": run(5, 2, 3, 999, brief=True)},
        mid_block_type=None,
        down_block_types=(CROSS_DOWN, CROSS_DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, CROSS_UP, CROSS_UP),
        block_out_channels=(8, 12, 16),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        cross_attention_dim=10,
    ),
}


def observed(unet):
    """Module paths that spec, section 8 names, in the order of named_modules."""
    paths = []
    for path, module in unet.named_modules():
        if path in ("conv_in", "mid_block", "conv_out", "time_embedding") or isinstance(
            module, (ResnetBlock2D, Downsample2D, Upsample2D)
        ):
            paths.append(path)
        elif isinstance(module, BasicTransformerBlock):
            paths += [path] + [f"{path}.{part}" for part in ("attn1", "attn2", "ff")]
    return paths


def runner(name, unets, run_name, r):
    """The stored run is seed 0's; the other seeds draw other inputs and turn to another t."""
    config = unets[torch.float64].config

    def go(seed, dtype):
        gen = generator("unet", name, run_name, seed)
        unet = unets[dtype]
        t = TIMES[(TIMES.index(r.t) + seed) % len(TIMES)]
        inputs = {
            "sample": draw(gen, config.in_channels, r.h, r.w, dtype=dtype),
            "t": torch.tensor(t, dtype=torch.float64),
            "context": draw(gen, r.tokens, config.cross_attention_dim, dtype=dtype),
        }
        names = ["time_embedding"] if r.brief else observed(unet)
        with torch.no_grad(), precision(dtype), recording(unet, names) as seen:
            eps = unet(inputs["sample"][None], inputs["t"], inputs["context"][None]).sample[0]
        return inputs, dict(seen, eps=eps)

    return go


def main():
    fields = inspect.signature(UNet2DConditionModel.__init__).parameters
    told = __doc__.split("Which fields")[1].replace(",", " ").split()
    assert not [f for f in fields if f != "self" and f not in told]
    for name, m in MODELS.items():
        path = DATA / f"unet_{name}"
        made = randomise(UNet2DConditionModel(**m.config), "unet", name)
        state = store(made, path, m.dtype)
        if m.keys:
            shorten_config(path, m.keys)
        loaded = reload(path, state)
        unets = {d: widen(loaded, state, d) for d in (torch.float64, torch.float32)}
        golden = Golden(f"unet_{name}")
        golden.metadata["about"] = m.about
        for run_name, r in m.runs.items():
            golden.case(run_name + "/", runner(name, unets, run_name, r))
        golden.save()


if __name__ == "__main__":
    main()

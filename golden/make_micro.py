"""golden/micro: the frozen pack, under 1 MB, on which the goldens stand.

Small and not blind: widths that differ from room to room, several heads, odd sizes possible, no
parameter at its default, and the three stored types. Two more adapters stand beside the first:
adapter_c (tau_k and tau_v read c) and adapter_shared (both branches leave by the frozen projection).
"""

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import PhiConfig, PhiForCausalLM

from common import HERE, generator
from pack import bytes_of, random_adapter, randomize, save_pack, train_tokenizer


def main(directory):
    tokenizer = train_tokenizer(pieces=461, max_length=128)
    llm = PhiForCausalLM(PhiConfig(
        vocab_size=512, hidden_size=40, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=5, max_position_embeddings=128))
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 24),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, attention_head_dim=4, norm_num_groups=8, cross_attention_dim=28)
    vae = AutoencoderKL(
        sample_size=16, block_out_channels=(8, 12), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, norm_num_groups=4,
        latent_channels=4, scaling_factor=1.7)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading")

    randomize(llm, generator("micro", "llm"))
    randomize(unet, generator("micro", "unet"), gain={"conv_out": 0.4})
    randomize(vae, generator("micro", "vae"), gain={"decoder.conv_out": 0.5})
    save_pack(directory, tokenizer, llm, unet.half(), vae.to(torch.bfloat16), scheduler)
    for name, settings in (("adapter", {}), ("adapter_c", {"tau_input": "c"}),
                           ("adapter_shared", {"out": "shared"})):
        random_adapter(directory / name, generator("micro", name), llm, unet, **settings)
    assert bytes_of(directory) < 1e6, bytes_of(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else HERE / "micro")

"""weights/tiny: the demo pack, under 16 MB, of the same architecture as SD 1.5 with Phi-1.5.

Random weights of sensible scale until it is trained; then this script says where training began.
The adapter is random too: a fresh one (a2 = 0) would leave Eq. 9's second branch unseen.
"""

import sys
from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import PhiConfig, PhiForCausalLM

from common import HERE, generator
from pack import bytes_of, random_adapter, randomize, save_pack, train_tokenizer


def main(directory):
    tokenizer = train_tokenizer(pieces=861, max_length=256)
    llm = PhiForCausalLM(PhiConfig(
        vocab_size=1024, hidden_size=128, intermediate_size=512, num_hidden_layers=6,
        num_attention_heads=4, max_position_embeddings=256))
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, attention_head_dim=4, norm_num_groups=16, cross_attention_dim=96)
    vae = AutoencoderKL(
        sample_size=128, block_out_channels=(16, 24, 32, 48),
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1, norm_num_groups=8, latent_channels=4)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading")

    randomize(llm, generator("tiny", "llm"))
    randomize(unet, generator("tiny", "unet"), gain={"conv_out": 0.3})
    randomize(vae, generator("tiny", "vae"), gain={"decoder.conv_out": 0.7})
    save_pack(directory, tokenizer, llm.half(), unet.half(), vae.half(), scheduler)
    random_adapter(directory / "adapter", generator("tiny", "adapter"), llm, unet)
    (directory / "README.md").write_text(CARD)
    assert bytes_of(directory) < 16e6, bytes_of(directory)


CARD = """# weights/tiny

The pack that the demo draws with. Its weights are random (golden/make_tiny.py, seeded), saved by the
upstream classes: the picture is a texture, not a scene, but every station of the method takes part.
The adapter is random as well, a2 included, so that the prompt reaches the picture through both
branches of Eq. 9.

| part | class | size | stored |
|---|---|---|---|
| llm | PhiForCausalLM | 6 blocks of 128, 4 heads, 900 pieces | f16 |
| unet | UNet2DConditionModel | 32, 64, 96 channels, latents 16 x 16 | f16 |
| vae | AutoencoderKL | 16, 24, 32, 48 channels, factor 8: pictures of 128 x 128 | f16 |
| adapter | LLMDiffAdapter | 7 cross-attentions | f32 |
"""

if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else HERE.parent / "weights" / "tiny")

"""golden/data/tiny_demo.safetensors: the demo's picture from weights/tiny, as PyTorch draws it.

    ids, clip/ids     int64          the prompt's tokens: the LLM's; CLIP's, padded
    rgb, clip/rgb     [H, W, 3] bytes

rgb is what `python golden/llmdiff_torch.py weights/tiny -p PROMPT` draws, clip/rgb what diffusers' own
StableDiffusionPipeline draws of the same pack, both in float32 with the pack's own steps and guidance (in the
metadata, with the prompt and the seed).
"""

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from common import HERE, Golden
from llmdiff_torch import (draw_noise, generate, load_pack, load_scheduler, loaded, pack_defaults,
                           prompt_ids, to_pixels)

TINY = HERE.parent / "weights" / "tiny"
PROMPT, SEED = "a small red circle to the left of a large blue square", 42


def llmdiff(golden, steps, cfg_scale):
    pack = load_pack(TINY)
    ids = prompt_ids(pack, PROMPT, cfg_scale=cfg_scale)
    image = generate(pack, ids, draw_noise(pack, ids, SEED, steps), steps=steps, cfg_scale=cfg_scale)
    golden.put("ids", torch.tensor(ids[""]))
    golden.put("rgb", to_pixels(image))


def clip(golden, steps, cfg_scale):
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=loaded(AutoencoderKL, TINY / "vae", torch.float32),
        unet=loaded(UNet2DConditionModel, TINY / "unet", torch.float32),
        text_encoder=loaded(CLIPTextModel, TINY / "text_encoder", torch.float32, "dtype",
                            attn_implementation="eager"),
        tokenizer=tokenizer, scheduler=load_scheduler(TINY / "scheduler"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(prompt=PROMPT, num_inference_steps=steps, guidance_scale=cfg_scale, output_type="pt",
                     generator=torch.Generator("cpu").manual_seed(SEED)).images[0]
    ids = tokenizer(PROMPT, padding="max_length", max_length=tokenizer.model_max_length)
    golden.put("clip/ids", torch.tensor(ids.input_ids))
    golden.put("clip/rgb", to_pixels(2 * image - 1))


if __name__ == "__main__":
    golden = Golden("tiny_demo")
    steps, cfg_scale = pack_defaults(TINY)
    with torch.no_grad():
        llmdiff(golden, steps, cfg_scale)
        clip(golden, steps, cfg_scale)
    golden.metadata |= {"prompt": PROMPT, "seed": SEED, "steps": steps, "cfg_scale": cfg_scale}
    golden.save()

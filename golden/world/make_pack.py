"""weights/tiny from what the stages left: everything but the adapter, which `llmdiff train` makes.

    python golden/world/make_pack.py WORK [weights/tiny]      WORK has vae/ phi/ unet/, the stages' OUT

Weights are stored in float16; model_index.json carries the guidance and the steps that suit this pack.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

GUIDANCE, STEPS = 3.0, 20


def forget_origin(path):
    """The directory that it was loaded from, which diffusers writes down."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def main(work, out):
    for part in ("llm", "unet", "vae", "scheduler", "text_encoder", "tokenizer"):
        shutil.rmtree(out / part, ignore_errors=True)
    shutil.copytree(work / "phi" / "llm", out / "llm")
    for cls, path, part in ((AutoencoderKL, "vae/vae", "vae"), (UNet2DConditionModel, "unet/unet", "unet"),
                            (CLIPTextModel, "unet/text_encoder", "text_encoder")):
        cls.from_pretrained(work / path, torch_dtype=torch.float32).half().save_pretrained(out / part)
        forget_origin(out / part / "config.json")
    for part in ("scheduler", "tokenizer"):
        shutil.copytree(work / "unet" / part, out / part)
    (out / "model_index.json").write_text(json.dumps({
        "_class_name": "LLMDiffPipeline", "_llmdiff_version": "0.1",
        "llm": ["transformers", "PhiForCausalLM"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "adapter": ["llmdiff", "LLMDiffAdapter"], "guidance_scale": GUIDANCE, "num_inference_steps": STEPS,
    }, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).parents[2] / "weights" / "tiny")

"""The real architectures without their weights: what a tensor of SD 1.5's U-Net, of Phi-1.5 and of
Vicuna-7B is called and what shape it has, as the upstream classes have it (built on torch's meta
device).

golden/data/full_size/{sd_1_5,phi_1_5,vicuna_7b}/: config.json, and shapes.txt with a line "name dim
dim ..." per tensor. From these a test makes files with a hole for data, and counts what a fresh
adapter for them has: 45.5M parameters with Phi-1.5, 77.5M with tau_input "c"; 47.1M and 130.2M with
Vicuna-7B.
"""

import json

import torch
from diffusers import UNet2DConditionModel
from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from common import DATA

SD_1_5 = {  # runwayml/stable-diffusion-v1-5, unet/config.json
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "sample_size": 64,
}
PHI_1_5 = {  # microsoft/phi-1_5, config.json
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 24,
    "vocab_size": 51200,
}
VICUNA_7B = {  # lmsys/vicuna-7b-v1.5, config.json
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "vocab_size": 32000,
}


def write(name, model, config):
    folder = DATA / "full_size" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    lines = [" ".join([key, *map(str, p.shape)]) for key, p in model.state_dict().items()]
    (folder / "shapes.txt").write_text("\n".join(lines) + "\n")


def main():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD_1_5)
        phi = PhiForCausalLM(PhiConfig(**PHI_1_5))
        vicuna = LlamaForCausalLM(LlamaConfig(**VICUNA_7B))
    defaults_filled_in = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    write("sd_1_5", unet, {"_class_name": "UNet2DConditionModel", **defaults_filled_in})
    write("phi_1_5", phi, {"model_type": "phi", **PHI_1_5})
    write("vicuna_7b", vicuna, {"model_type": "llama", **VICUNA_7B})


if __name__ == "__main__":
    main()

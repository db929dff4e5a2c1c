"""Stage 3: pictures for the U-Net, as the VAE's posterior.

    python golden/world/encode_latents.py VAE OUT.pt [--count N] [--part K]

OUT.pt: scenes and relations, and moments [N, 2 C, 8, 8] in float16; part K has pictures of its own.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from stage import batch_random
from world import draw_scene, render


def main():
    args = argparse.ArgumentParser()
    args.add_argument("vae", type=Path)
    args.add_argument("out", type=Path)
    args.add_argument("--count", type=int, default=80000)
    args.add_argument("--part", type=int, default=0)
    args = args.parse_args()
    vae = AutoencoderKL.from_pretrained(args.vae).eval()
    random = batch_random("pictures", args.part)
    scenes, moments = [], []
    while len(scenes) < args.count:
        batch = [draw_scene(random) for _ in range(50)]
        x = torch.from_numpy(np.stack([render(scene) for scene, _ in batch])).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            moments.append(vae._encode(x).half())
        scenes += batch
        if len(scenes) % 5000 == 0:
            print(len(scenes), flush=True)
    torch.save({"scenes": scenes, "moments": torch.cat(moments)}, args.out.with_suffix(".tmp"))
    os.replace(args.out.with_suffix(".tmp"), args.out)


if __name__ == "__main__":
    main()

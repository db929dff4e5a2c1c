"""Stage 2: the VAE (AutoencoderKL, factor 8) of the small world.

    python golden/world/train_vae.py OUT [--steps N] [--latents 4]

The loss is that of a VAE whose decoder has a fixed standard deviation SIGMA, per pixel and channel,
with an absolute error beside it for sharp edges. At the end each latent channel is brought to mean 0 and
variance 1, which quant_conv and post_quant_conv absorb: scaling_factor is 1.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from stage import Ema, Stage, batch_random, rate
from world import draw_scene, render

SIGMA = 0.05
BATCH = 16


def pictures(random, count):
    """[count, 3, 64, 64] in -1 .. 1"""
    images = np.stack([render(draw_scene(random)[0]) for _ in range(count)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def build(latents):
    return AutoencoderKL(
        sample_size=64, block_out_channels=(16, 32, 48, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=latents, scaling_factor=1.0)


@torch.no_grad()
def standardize(vae, seed):
    """Fold each latent channel's mean and standard deviation, the posterior's variance included, into the two
    1 x 1 convolutions. (A channel that the VAE doesn't use stays what it is: noise of variance 1.)"""
    random = batch_random("standardize", seed)
    posteriors = [vae.encode(pictures(random, 32)).latent_dist for _ in range(16)]
    z = torch.cat([p.mean for p in posteriors])
    mean = z.mean((0, 2, 3))
    std = (z.var((0, 2, 3)) + torch.cat([p.var for p in posteriors]).mean((0, 2, 3))).sqrt()
    C = len(mean)
    post, quant = vae.post_quant_conv, vae.quant_conv
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
    quant.weight[:C] /= std[:, None, None, None]
    quant.bias[:C] = (quant.bias[:C] - mean) / std
    quant.bias[C:] -= 2 * std.log()


def main():
    args = argparse.ArgumentParser()
    args.add_argument("out", type=Path)
    args.add_argument("--steps", type=int, default=4200)
    args.add_argument("--latents", type=int, default=4)
    args.add_argument("--peak", type=float, default=2e-3)
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(args.seed)
    vae = build(args.latents)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    ema = Ema(vae.parameters(), 0.999)

    def save():
        return {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow}

    def load(state):
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow = state["ema"]

    stage = Stage(args.out, args.steps, save, load)
    for step in stage:
        x = pictures(batch_random(args.seed, step), BATCH)
        noise = torch.Generator().manual_seed(args.seed << 32 | step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            posterior = vae.encode(x).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        z = mean + torch.exp(logvar / 2) * torch.randn(mean.shape, generator=noise)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = vae.decode(z).sample
        error = y.float() - x
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / x.numel()
        loss = error.square().mean() / (2 * SIGMA**2) + error.abs().mean() / SIGMA + kl
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args.steps, args.peak)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step)
        stage.shown = f"rmse {error.square().mean().sqrt():.4f} abs {error.abs().mean():.4f} kl {kl:.3f} std {torch.exp(logvar / 2).mean():.3f}/{mean.std():.2f}"

    ema.apply()
    standardize(vae, args.seed)
    vae.save_pretrained(args.out / "vae")


if __name__ == "__main__":
    main()

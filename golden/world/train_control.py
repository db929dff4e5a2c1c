"""The control "finetuned": what the baseline itself learns from the adapter's pairs.

    python golden/world/train_control.py PAIRS.tar OUT --steps N [--batch 16] [--pack weights/tiny]

The same pictures and rich captions, the same number of steps and of samples in each, the same loss as
`llmdiff train`; trained are the text encoder and the U-Net's cross-attentions, all else is frozen.
OUT/unet_attn2.safetensors, OUT/text_encoder/. Two processes of one thread, as train_unet.py.
"""

import argparse
import io
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from stage import Stage, batch_random, rate
from train_unet import RANKS, Shared, adamw, text_ids


def read_pairs(path, vae):
    """Captions and the VAE's posterior of each picture, [N, 2 C, 8, 8]."""
    captions, moments, batch = [], [], []

    def flush():
        x = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            moments.append(vae._encode(x).half())
        batch.clear()

    with tarfile.open(path) as tar:
        for entry in tar:
            data = tar.extractfile(entry).read()
            if entry.name.endswith(".txt"):
                captions.append(data.decode())
            else:
                batch.append(np.asarray(Image.open(io.BytesIO(data))))
            if len(batch) == 50:
                flush()
    if batch:
        flush()
    return captions, torch.cat(moments)


def trained(unet, text_encoder):
    """The parameters that learn, under their names."""
    return {**{f"unet.{n}": p for n, p in unet.named_parameters() if ".attn2." in n},
            **{f"text_encoder.{n}": p for n, p in text_encoder.named_parameters()}}


class Some(nn.Module):
    def __init__(self, parameters):
        super().__init__()
        for i, p in enumerate(parameters):
            self.register_parameter(str(i), p)


def open_pack(pack):
    unet = UNet2DConditionModel.from_pretrained(pack / "unet", torch_dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(pack / "text_encoder", torch_dtype=torch.float32,
                                                 attn_implementation="eager")
    unet.requires_grad_(False)
    unet.set_attn_processor(AttnProcessor())
    learned = trained(unet, text_encoder)
    for p in learned.values():
        p.requires_grad_(True)
    return unet, text_encoder, learned


def rank_main(rank, args, shared, barrier, told):
    torch.set_num_threads(1)
    data = torch.load(args.out / "pairs.pt", weights_only=False, mmap=True)
    captions, moments = data["captions"], data["moments"]
    unet, text_encoder, learned = open_pack(args.pack)
    tokenizer = CLIPTokenizer.from_pretrained(args.pack / "tokenizer")
    scheduler = DDIMScheduler.from_pretrained(args.pack / "scheduler")
    some = Some(learned.values())
    shared.bind(some, rank)
    own = args.batch // RANKS

    def save():
        return {"flat": shared.flat, "average": shared.average, "moments": shared.moments}

    def load(state):
        if rank == 0:
            for name, value in state.items():
                if name != "step":
                    getattr(shared, name).copy_(value)

    stage = Stage(args.out, args.steps, save if rank == 0 else None, load, every=120)
    barrier.wait()
    for step in stage:
        random = batch_random(args.seed, step, rank)
        noise = torch.Generator().manual_seed(((args.seed * RANKS + rank) << 32) + step)
        picked = [random.randrange(len(captions)) for _ in range(own)]
        texts = ["" if random.random() < 0.1 else captions[k] for k in picked]
        mean, logvar = moments[picked].float().chunk(2, 1)
        z = mean + torch.exp(logvar / 2) * torch.randn(mean.shape, generator=noise)
        t = torch.randint(0, 1000, (own,), generator=noise)
        eps = torch.randn(z.shape, generator=noise)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            c = text_encoder(text_ids(tokenizer, texts)).last_hidden_state
            predicted = unet(scheduler.add_noise(z, eps, t), t, encoder_hidden_states=c).sample
        loss = F.mse_loss(predicted.float(), scheduler.get_velocity(z, eps, t))
        loss.backward()
        adamw(shared, rank, barrier, step, rate(step, args.steps, args.peak), ema=0.999)
        told[step % 100] = loss.item()
        if rank == 0:
            stage.shown = f"loss {told.mean():.4f}"
    barrier.wait()
    if rank == 0:
        shared.bind(some, 0, shared.average)
        save_file({n.removeprefix("unet."): p.detach().half().contiguous() for n, p in learned.items()
                   if n.startswith("unet.")}, args.out / "unet_attn2.safetensors")
        text_encoder.half().save_pretrained(args.out / "text_encoder")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("pairs", type=Path)
    args.add_argument("out", type=Path)
    args.add_argument("--steps", type=int, required=True)
    args.add_argument("--batch", type=int, default=16)
    args.add_argument("--peak", type=float, default=5e-4)
    args.add_argument("--pack", type=Path, default=Path(__file__).parents[2] / "weights" / "tiny")
    args.add_argument("--seed", type=int, default=5)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "pairs.pt").exists():
        vae = AutoencoderKL.from_pretrained(args.pack / "vae", torch_dtype=torch.float32)
        captions, moments = read_pairs(args.pairs, vae)
        torch.save({"captions": captions, "moments": moments}, args.out / "pairs.pt")
    shared = Shared(Some(open_pack(args.pack)[2].values()))
    context = mp.get_context("spawn")
    barrier, told = context.Barrier(RANKS), torch.zeros(100).share_memory_()
    mp.spawn(rank_main, (args, shared, barrier, told), nprocs=RANKS)


if __name__ == "__main__":
    main()

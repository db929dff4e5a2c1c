"""Stage 4: the baseline, as Stable Diffusion 1.5 was made: U-Net and CLIP text encoder on pictures with
short captions.

    python golden/world/train_unet.py OUT LATENTS.pt ... [--steps N]

Two processes of one thread: each takes half of every batch and, once the gradients of both are there, half
of the parameters. Parameters lie in one shared array.
The target is v, over a schedule whose last step is noise alone (arXiv 2305.08891): with eps over SD's own
schedule the backgrounds came out grey. Late, noisy timesteps, where the scene is decided, are drawn more often.
"""

import argparse
from pathlib import Path

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

import clip_tokenizer
from captions import caption
from make_suite import suite_prompts
from stage import Stage, batch_random, rate

RANKS = 2
WIDTH = 96  # of the text encoder: the U-Net's cross_attention_dim


def build_unet(latents):
    return UNet2DConditionModel(
        sample_size=8, in_channels=latents, out_channels=latents, block_out_channels=(96, 128), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=16)


def build_text_encoder(tokenizer):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3,
        num_attention_heads=4, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, attn_implementation="eager"))


def build_scheduler():
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
        set_alpha_to_one=False, timestep_spacing="trailing", prediction_type="v_prediction",
        rescale_betas_zero_snr=True)


class Shared:
    """All parameters of a module as one array, and one array of gradients for each rank, in shared memory.
    Rank r keeps AdamW and average of its half."""

    def __init__(self, module):
        total = sum(p.numel() for p in module.parameters())
        self.half = (total + RANKS - 1) // RANKS
        self.flat = torch.empty(self.half * RANKS).share_memory_()
        self.grads = torch.zeros(RANKS, self.half * RANKS).share_memory_()
        self.average = torch.empty(self.half * RANKS).share_memory_()
        self.norms = torch.zeros(RANKS, dtype=torch.float64).share_memory_()
        self.moments = torch.zeros(2, self.half * RANKS).share_memory_()
        with torch.no_grad():
            self.flat[:total].copy_(torch.cat([p.reshape(-1) for p in module.parameters()]))
        self.average.copy_(self.flat)

    def bind(self, module, rank, array=None):
        """The module's parameters become views of the shared array, its gradients of this rank's."""
        at = 0
        for p in module.parameters():
            n = p.numel()
            p.data = (self.flat if array is None else array)[at:at + n].view(p.shape)
            p.grad = self.grads[rank, at:at + n].view(p.shape)
            at += n

    def mine(self, rank):
        return slice(rank * self.half, (rank + 1) * self.half)


@torch.no_grad()
def adamw(shared, rank, barrier, step, lr, clip=1.0, betas=(0.9, 0.99), decay=0.01, eps=1e-8, ema=0.9995):
    """One step on this rank's half, of the mean of all ranks' gradients, clipped together."""
    s = shared.mine(rank)
    barrier.wait()
    g = shared.grads[:, s].mean(0)
    shared.norms[rank] = g.double().square().sum()
    barrier.wait()
    norm = shared.norms.sum().sqrt().item()
    g *= min(1.0, clip / (norm + 1e-6))
    w, (m, v) = shared.flat[s], shared.moments[:, s]
    torch._fused_adamw_([w], [g], [m], [v], [], [torch.tensor(step + 1.0)], amsgrad=False, maximize=False, lr=lr,
                        beta1=betas[0], beta2=betas[1], weight_decay=decay, eps=eps)
    shared.average[s].lerp_(w, 1 - min(ema, (1 + step) / (10 + step)))
    shared.grads[rank].zero_()
    barrier.wait()
    return norm


def text_ids(tokenizer, texts):
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def short_caption(random, pair, taken, relations):
    """Of two objects the relation is told in 0.7 of the captions, with `relations` in 0.9."""
    while True:
        text, expect = caption(random, *pair, "short")
        told = "relations" in expect or pair[1] is None or not relations or random.random() < 0.26
        if told and text not in taken:
            return text


def learning_rate(args, step):
    """Two cosines: the second, lower one begins at args.second."""
    if step < args.second:
        return rate(step, args.second, args.peak, warmup=500)
    return rate(step - args.second, args.steps - args.second, 0.6 * args.peak, warmup=500)


def rank_main(rank, args, shared, barrier, told):
    torch.set_num_threads(1)
    data = [torch.load(path, weights_only=False, mmap=True) for path in args.data]
    scenes = [pair for part in data for pair in part["scenes"]]
    moments = torch.cat([part["moments"] for part in data])
    latents = moments.shape[1] // 2
    taken = suite_prompts()
    tokenizer = clip_tokenizer.train(taken)
    torch.manual_seed(args.seed)
    model = nn.ModuleList([build_unet(latents), build_text_encoder(tokenizer)])
    shared.bind(model, rank)
    unet, text_encoder = model
    unet.set_attn_processor(AttnProcessor())
    scheduler = build_scheduler()
    own = args.batch // RANKS
    everything = range(len(scenes))
    pairs = [k for k in everything if len(scenes[k][0]["objects"]) == 2]

    def save():
        return {"flat": shared.flat, "average": shared.average, "moments": shared.moments}

    def load(state):
        if rank == 0:
            shared.flat.copy_(state["flat"]), shared.average.copy_(state["average"]), shared.moments.copy_(state["moments"])

    stage = Stage(args.out, args.steps, save if rank == 0 else None, load, every=240)
    barrier.wait()
    for step in stage:
        random = batch_random(args.seed, step, rank)
        noise = torch.Generator().manual_seed(((args.seed * RANKS + rank) << 32) + step)
        second = step >= args.second
        picked = [random.choice(pairs if second and random.random() < 0.75 else everything) for _ in range(own)]
        texts = ["" if random.random() < 0.1 else short_caption(random, scenes[k], taken, second) for k in picked]
        mean, logvar = moments[picked].float().chunk(2, 1)
        z = mean + torch.exp(logvar / 2) * torch.randn(mean.shape, generator=noise)
        t = (1000 * torch.rand(own, generator=noise) ** 0.65).long().clamp(max=999)
        eps = torch.randn(z.shape, generator=noise)
        z_t, v = scheduler.add_noise(z, eps, t), scheduler.get_velocity(z, eps, t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            c = text_encoder(text_ids(tokenizer, texts)).last_hidden_state
            predicted = unet(z_t, t, encoder_hidden_states=c).sample
        loss = F.mse_loss(predicted.float(), v)
        loss.backward()
        norm = adamw(shared, rank, barrier, step, learning_rate(args, step))
        told[step % 100] = loss.item()
        if rank == 0:
            stage.shown = f"loss {told.mean():.4f} norm {norm:.2f}"
        if rank == 0 and (step + 1) % args.keep == 0 or step + 1 == args.steps and rank == 0:
            keep(args, shared, model, tokenizer, scheduler)
    barrier.wait()


def keep(args, shared, model, tokenizer, scheduler):
    """The averaged parameters, in Hugging Face layout."""
    unet, text_encoder = model
    shared.bind(model, 0, shared.average)
    unet.save_pretrained(args.out / "unet")
    text_encoder.save_pretrained(args.out / "text_encoder")
    shared.bind(model, 0)
    tokenizer.save_pretrained(args.out / "tokenizer")
    scheduler.save_pretrained(args.out / "scheduler")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("out", type=Path)
    args.add_argument("data", type=Path, nargs="+")
    args.add_argument("--steps", type=int, default=36000)
    args.add_argument("--second", type=int, default=24000, help="from that step on more relations, and a rate that falls anew")
    args.add_argument("--batch", type=int, default=48)
    args.add_argument("--peak", type=float, default=1e-3)
    args.add_argument("--keep", type=int, default=1000, help="save the averaged model every so many steps")
    args.add_argument("--seed", type=int, default=3)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    latents = torch.load(args.data[0], weights_only=False, mmap=True)["moments"].shape[1] // 2
    torch.manual_seed(args.seed)
    shared = Shared(nn.ModuleList([build_unet(latents), build_text_encoder(clip_tokenizer.train(suite_prompts()))]))
    context = mp.get_context("spawn")
    barrier, told = context.Barrier(RANKS), torch.zeros(100).share_memory_()
    mp.spawn(rank_main, (args, shared, barrier, told), nprocs=RANKS)


if __name__ == "__main__":
    main()

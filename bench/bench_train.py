"""The training step that bench_train.c times, in PyTorch: golden/train_torch.py's, float32.

    python bench/bench_train.py PACK INPUTS.safetensors --write [--resolution R] [--batch N]
    python bench/bench_train.py PACK INPUTS.safetensors [--steps N] [--checkpointing] [--batched]

--write draws a batch, once, for both programs. The LLM isn't loaded: what it says of a caption stays the
same during training, and is in the file. --batched gives the U-Net the whole batch in one call, which
PyTorch can where captions are equally long (here they are), in place of one sample after the other.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

import llmdiff_torch  # noqa: E402
import train_torch  # noqa: E402


def write(a):
    """Random numbers of the true shapes and of the size that a pack's have."""
    config = json.loads((a.pack / "adapter/config.json").read_text())
    vae = json.loads((a.pack / "vae/config.json").read_text())
    side = a.resolution // 2 ** (len(vae["block_out_channels"]) - 1)
    D, T, latent = config["llm_hidden_size"], config["llm_num_blocks"], (vae["latent_channels"], side, side)
    torch.manual_seed(1)
    tensors = {}
    for i in range(a.batch):
        numbers = {"x_T": torch.randn(a.tokens, D), "delta": torch.randn(T, a.tokens, D) / T ** 0.5,
                   "latent_mean": 5 * torch.randn(latent), "latent_logvar": torch.randn(latent) - 10,
                   "train/posterior_noise": torch.randn(latent), "train/noise": torch.randn(latent),
                   "train/t": torch.randint(0, 1000, (1,)).float()}
        numbers |= {f"alg1/eps.{t}": torch.randn(a.tokens, D) for t in range(1, T + 1)}
        tensors |= {f"{i}/{k}": v for k, v in numbers.items()}
    save_file(tensors, a.inputs, metadata={"batch": str(a.batch)})


def scores_of(tensors):
    """What llmdiff_torch.scores returns, from the file: delta is S_sentence, S_word is 0."""
    def scores(llm, ids, word=True, see=None):
        x_T, delta = tensors[f"{ids}/x_T"], tensors[f"{ids}/delta"]
        return [x_T], list(delta), [torch.zeros_like(x_T)] * len(delta)
    return scores


def samples_of(tensors, batch):
    def sample(i):
        mine = {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{i}/")}
        return train_torch.Sample(i, mine, mine["latent_mean"], mine["latent_logvar"],
                                  mine["train/posterior_noise"], mine["train/noise"],
                                  int(mine["train/t"]))
    return [sample(i) for i in range(batch)]


def batched_loss(pack, samples):
    """The mean of train_torch.sample_loss over samples with captions of one length."""
    stack = lambda name: torch.stack([getattr(s, name) for s in samples])
    t, eps = torch.tensor([s.t for s in samples]), stack("noise")
    z_0 = stack("latent_mean") + torch.exp(stack("latent_logvar") / 2) * stack("posterior_noise")
    z_0 = pack.vae.config.scaling_factor * z_0
    z_t = pack.scheduler.add_noise(z_0, eps, t)
    context = torch.cat([llmdiff_torch.encode(pack, s.ids, s.langevin) for s in samples])
    on_v = pack.scheduler.config.prediction_type == "v_prediction"
    target = pack.scheduler.get_velocity(z_0, eps, t) if on_v else eps
    return F.mse_loss(pack.unet(z_t, t, context).sample, target)


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def peak_rss():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path)
    parser.add_argument("inputs")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--batched", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    a = parser.parse_args()
    if a.write:
        return write(a)

    torch.set_num_threads(a.threads)
    with safe_open(a.inputs, "pt") as file:
        batch = int(file.metadata()["batch"])
    tensors = load_file(a.inputs)
    config = json.loads((a.pack / "adapter/config.json").read_text())
    no_llm = SimpleNamespace(
        config=SimpleNamespace(hidden_size=config["llm_hidden_size"],
                               num_hidden_layers=config["llm_num_blocks"]),
        model=SimpleNamespace(layers=range(config["llm_num_blocks"])),
        requires_grad_=lambda _: None)
    pack = llmdiff_torch.load_pack(a.pack, load_llm=lambda directory, dtype: no_llm)
    train_torch.frozen(pack)
    pack.vae = SimpleNamespace(config=pack.vae.config)
    llmdiff_torch.scores = scores_of(tensors)
    if a.channels_last:
        pack.unet.to(memory_format=torch.channels_last)
    pack.unet.train()  # or diffusers doesn't checkpoint; it has no dropout
    if a.checkpointing:
        pack.unet.enable_gradient_checkpointing()
    samples = samples_of(tensors, batch)
    optimizer = train_torch.adamw(pack.adapter)
    optimizer.defaults["foreach"] = None  # torch's own choice
    for group in optimizer.param_groups:
        group["foreach"] = None

    reset_peak()
    for _ in range(a.steps):
        forward = backward = total = 0
        used = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        for part in [samples] if a.batched else [[s] for s in samples]:
            start = time.perf_counter()
            loss = batched_loss(pack, part) if a.batched else train_torch.sample_loss(pack, part[0])
            loss = loss * len(part) / batch
            middle = time.perf_counter()
            loss.backward()
            backward += time.perf_counter() - middle
            forward += middle - start
            total += loss.item()
            del loss
        start = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(pack.adapter.parameters(), 1.0)
        optimizer.step()
        print(f"loss {total:.9g} forward {forward:.6f} backward {backward:.6f} "
              f"optimizer {time.perf_counter() - start:.6f} "
              f"processor {time.process_time() - used:.6f}", flush=True)
    print(f"peak {peak_rss():.1f}")


if __name__ == "__main__":
    main()

"""One training step of llmdiff in PyTorch (spec, section 5), over the upstream classes with autograd.

    pack = load_pack(directory)
    frozen(pack)                                        # all but the adapter
    optimizer = adamw(pack.adapter)
    step(pack, optimizer, [[sample, ...], ...])         # batches whose gradients are accumulated

    L = mean( (eps_theta(z_t, c) - eps)^2 ),   z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps

A prompt has its own length and is never padded, so the U-Net sees a batch one element after the other.
Gradients reach phi and tau through Eq. 9, g and eta through Algorithm 1; the LLM's scores are constants.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from hooks import nobody, under
from llmdiff_torch import encode, evaluate


@dataclass
class Sample:
    """A picture and its caption, with everything that is drawn at random for it."""

    ids: list
    langevin: dict  # alg1/eps.{t} [N, D], and alg1/c.{T} for init "normal"
    latent_mean: torch.Tensor  # of the VAE's posterior [4, h, w]
    latent_logvar: torch.Tensor
    posterior_noise: torch.Tensor  # N(0, I)
    noise: torch.Tensor  # eps
    t: int


def frozen(pack):
    for model in (pack.llm, pack.unet, pack.vae):
        model.requires_grad_(False)


def adamw(adapter, lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8):
    """Decay acts on matrices only: it would pull eta to 0, that is h to 0.69."""
    parameters = list(adapter.parameters())
    return torch.optim.AdamW(
        [{"params": [p for p in parameters if p.ndim == 2], "weight_decay": weight_decay},
         {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0}],
        lr=lr, betas=betas, eps=eps, foreach=False)


def min_snr_weight(scheduler, t, gamma):
    """min(snr, gamma) / snr, for v_prediction min(snr, gamma) / (snr + 1), with snr = abar / (1 - abar)."""
    abar = scheduler.alphas_cumprod[t]
    snr = abar / (1 - abar)
    on_v = scheduler.config.prediction_type == "v_prediction"
    return torch.clamp(snr, max=gamma) / (snr + 1 if on_v else snr)


def sample_loss(pack, sample, snr_gamma=None, see=nobody):
    """What one element adds to its batch's loss, before it is divided by the batch's size."""
    dtype, t = pack.dtype, torch.tensor([sample.t])

    # z_0 from the posterior, z_t with noise on it
    std = torch.exp(sample.latent_logvar.to(dtype) / 2)
    z_0 = sample.latent_mean.to(dtype) + std * sample.posterior_noise.to(dtype)
    z_0 = see("train/z0", pack.vae.config.scaling_factor * z_0)
    eps = sample.noise.to(dtype)
    z_t = see("train/z_t", pack.scheduler.add_noise(z_0[None], eps[None], t)[0])

    # c by Algorithm 1, phi(c), and the U-Net with Eq. 9 in every cross-attention
    context = encode(pack, sample.ids, sample.langevin, see)
    predicted = see("conv_out", evaluate(pack, z_t, t, context))

    target = {"epsilon": lambda: eps,
              "v_prediction": lambda: pack.scheduler.get_velocity(z_0[None], eps[None], t)[0],
              }[pack.scheduler.config.prediction_type]()
    loss = F.mse_loss(predicted, target)
    return loss if snr_gamma is None else loss * min_snr_weight(pack.scheduler, sample.t, snr_gamma)


def gradients(pack, batches, snr_gamma=None, see=nobody):
    """The loss of a step, whose gradient is added to the adapter's parameters: the mean over batches of
    equal size."""
    total, index = 0, 0
    for batch in batches:
        loss = 0
        for sample in batch:
            loss = loss + sample_loss(pack, sample, snr_gamma, under(f"{index}/", see))
            index += 1
        loss = loss / len(batch) / len(batches)
        loss.backward()
        total = total + loss.detach()
    return see("train/loss", total)


def step(pack, optimizer, batches, max_grad_norm=None, snr_gamma=None, see=nobody):
    """Parameters that the settings leave unused have no gradient, and AdamW leaves them as they are."""
    optimizer.zero_grad(set_to_none=True)
    loss = gradients(pack, batches, snr_gamma, see)
    if max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(pack.adapter.parameters(), max_grad_norm, foreach=False)
    optimizer.step()
    return loss

"""The kit's training steps: train_torch.py, on micro.

Elements of a step's batches, one after the other, stand under "b/":

    b/ids, b/alg1/eps.{t}, b/train/{latent_mean,latent_logvar,posterior_noise,noise,t}      given
    b/train/drop         1: the caption is left out, so that b/ids are the begin token alone (and eps has
                         one row); absent: it isn't
    b/train/{z0,z_t}, b/alg1/c.0, b/conv_out                                                 wanted
                         conv_out: eps_theta(z_t, c)

    train/gradients      -> all that, train/loss, grad/<parameter>
                         parameters batch, batches (accumulated), snr_gamma, prediction_type. The gradients
                         are in the order of the way back; those of parameters that the settings leave out
                         of the computation (eta without noise, layers that don't blend) don't exist
    train/adamw          grad.{k}/<parameter> of step k = 1 .. 10, before clipping
                         -> train/norm (of all that is given, before clipping, after each step),
                         after.1/<parameter>, adamw/<parameter>/{m,v} after step 10, after.10/<parameter>.
                         Parameters start as the adapter has them, matrices (ndim 2) decay
                         parameters lr, beta1, beta2, eps (AdamW's), weight_decay, max_grad_norm, steps
    train/steps          ten steps on elements 2 k and 2 k + 1 modulo 4, as two batches of one
                         -> train/loss, train/norm of each step, after.{1,10}/<parameter> of all, those too
                         that the settings leave out: they stay as they are. Not m: a sum of gradients that
                         change sign, it cancels to a tenth for one scalar or another, and what is left of
                         that one's digits is luck

Half types have no yardstick here: nobody keeps gradients and AdamW's moments in them.
"""

import torch

import train_torch
from common import HERE, draw, generator
from export_llm import some_ids
from export_train import inputs_of, sample
from f64 import precision
from hooks import Trace
from llmdiff_torch import attn2_paths, load_pack

MICRO = HERE / "micro"
TYPES = (torch.float32,)
LENGTHS = (5, 9, 2, 7)
LATENT = (4, 4, 6)
DOWN, UP = ("down_blocks.0.attentions.0.transformer_blocks.0.attn2",
            "up_blocks.1.attentions.1.transformer_blocks.0.attn2")
PLAIN = dict(adapter="adapter", settings={}, batch=2, batches=1)
# seed: the first of 32. Not always 0: where the gradient of a scalar, a sum over all pixels, cancels to less
# than half its usual size, a right port's rounding would be a large part of it. There it doesn't.
GRADIENTS = {
    "plain": dict(seed=19),
    "quiet": dict(seed=2, adapter="adapter_c", settings={
        "noise": False, "layers": [UP], "normalize": "rms", "word_score": False, "g_scale": 0.7}),
    "accumulation": dict(seed=2, adapter="adapter_c", batches=2, drop=[2]),
    "shared": dict(seed=33, adapter="adapter_shared", snr_gamma=5.0),
    "v_prediction": dict(seed=5, prediction_type="v_prediction", snr_gamma=5.0, settings={
        "score": "difference", "layers": [DOWN], "blocks": [1, 2], "h_scale": 2.5, "b1": 0.3}),
}
# beta2 = 0.99 would hide the bias correction from the first step: there 1 - 0.9 = sqrt(1 - 0.99).
OPTIMIZER = dict(lr=2e-3, beta1=0.9, beta2=0.98, weight_decay=0.1, max_grad_norm=0.2)
STEPS = 10
KEPT = ("train/z0", "train/z_t", "alg1/c.0", "conv_out", "train/loss")


def training(group):
    for name, case in GRADIENTS.items():
        gradients(group, name, PLAIN | case)
    adamw(group)
    steps(group)


def opened(dtype, adapter="adapter", settings=None, prediction_type=None):
    pack = load_pack(MICRO, dtype, MICRO / adapter, settings)
    if prediction_type:
        pack.scheduler.register_to_config(prediction_type=prediction_type)
    train_torch.frozen(pack)
    return pack


def optimizer_of(pack, eps):
    return train_torch.adamw(pack.adapter, OPTIMIZER["lr"], (OPTIMIZER["beta1"], OPTIMIZER["beta2"]),
                             OPTIMIZER["weight_decay"], eps)


def way_back(pack):
    """The parameters in the order in which the way back comes to their gradients."""
    named = dict(pack.adapter.named_parameters())
    last_first = sorted(attn2_paths(pack.unet), key=lambda path: (path.split("_")[0], path), reverse=True)
    parts = ("b2", "a2", "b1", "a1", "tau_out.bias", "tau_out.weight", "tau_v.weight", "tau_k.weight",
             "tau_q.weight")
    names = [f"{path}.{part}" for path in last_first for part in parts]
    order = [name for name in names if name in named] + ["phi.bias", "phi.weight", "eta", "g"]
    assert sorted(order) == sorted(named)
    return {name: named[name] for name in order}


def gradients(group, name, case):
    about = {k: case.get(k) for k in ("adapter", "settings", "prediction_type")}
    packs = {dtype: opened(dtype, **about) for dtype in (torch.float64, *TYPES)}
    size, drop = case["batch"], case.get("drop", [])

    def run(seed, dtype):
        seed += case.get("seed", 0)
        pack, inputs, samples = packs[dtype], {}, []
        bos = pack.tokenizer.bos_token_id
        for b in range(size * case["batches"]):
            one = sample(pack, f"kit/{name}", seed, b, 1 if b in drop else LENGTHS[b], LATENT)
            samples.append(one)
        inputs = inputs_of(samples)
        for b in drop:
            inputs[f"{b}/ids"] = torch.tensor(some_ids(bos, LENGTHS[b], 512, "kit/train", name, seed, b))
            inputs[f"{b}/train/drop"] = torch.tensor(1)
        pack.adapter.zero_grad(set_to_none=True)
        trace = Trace(None)
        with precision(dtype):
            batches = [samples[i:i + size] for i in range(0, len(samples), size)]
            train_torch.gradients(pack, batches, case.get("snr_gamma"), trace)
        outputs = {f"{b}/ids": torch.tensor(samples[b].ids) for b in drop}
        outputs |= {k: v.detach() for k, v in trace.items() if k.endswith(KEPT)}
        outputs |= {"grad/" + k: p.grad.clone() for k, p in way_back(pack).items() if p.grad is not None}
        return inputs, outputs

    group.case(name, run, module="train/gradients", pack="micro", spec="5",
               upstream="torch autograd of golden/train_torch.py",
               parameters={k: v for k, v in case.items() if k not in ("drop", "seed")})


def adamw(group):
    chosen = [f"{UP}.tau_q.weight", "phi.bias", "g", "eta", f"{UP}.a2"]

    def run(seed, dtype):
        pack, inputs, norms = opened(dtype), {}, []
        named = dict(pack.adapter.named_parameters())
        outputs = {"train/norm": None}
        with precision(dtype):
            optimizer = optimizer_of(pack, 1e-8)
            for k in range(1, STEPS + 1):
                for name in chosen:
                    # of every size, so that eps counts for some
                    gen, shape = generator("kit/adamw", name, seed, k), named[name].shape
                    size = 10 ** (-6 * torch.rand(shape, generator=gen, dtype=torch.float64))
                    size = size if k not in (4, 5) else 0.01 * size  # nothing to clip
                    inputs[f"grad.{k}/{name}"] = (draw(gen, *shape) * size).float().double()
                    named[name].grad = inputs[f"grad.{k}/{name}"].to(dtype, copy=True)
                norms.append(torch.nn.utils.clip_grad_norm_(
                    pack.adapter.parameters(), OPTIMIZER["max_grad_norm"], foreach=False))
                optimizer.step()
                if k == STEPS:
                    outputs |= moments(optimizer, {n: named[n] for n in chosen})
                outputs |= after(k, {n: named[n] for n in chosen})
        return inputs, outputs | {"train/norm": torch.stack(norms)}

    group.case("adamw", run, module="train/adamw", pack="micro", spec="5",
               upstream="torch.optim.AdamW, torch.nn.utils.clip_grad_norm_",
               parameters={"adapter": "adapter", "steps": STEPS, "eps": 1e-8} | OPTIMIZER)


def after(step, named):
    return {f"after.{step}/{n}": p.detach().clone() for n, p in named.items() if step in (1, STEPS)}


def moments(optimizer, named):
    state = {name: optimizer.state[p] for name, p in named.items()}
    return {f"adamw/{name}/{short}": s[key].clone() for name, s in state.items()
            for short, key in (("m", "exp_avg"), ("v", "exp_avg_sq"))}


def steps(group):
    # What the settings leave out isn't learned: it doesn't decay either.
    settings = {"layers": [DOWN, UP], "b1": 0.3}

    def run(seed, dtype):
        pack, losses, norms = opened(dtype, settings=settings), [], []
        samples = [sample(pack, "kit/steps", seed, b, LENGTHS[b], LATENT) for b in range(4)]
        outputs = {"train/loss": None, "train/norm": None}
        with precision(dtype):
            # eps: what export_train.py says of it
            optimizer = optimizer_of(pack, 1e-5)
            for k in range(STEPS):
                optimizer.zero_grad()
                losses.append(train_torch.gradients(pack, [[samples[2 * k % 4]], [samples[2 * k % 4 + 1]]]))
                norms.append(torch.nn.utils.clip_grad_norm_(
                    pack.adapter.parameters(), OPTIMIZER["max_grad_norm"], foreach=False))
                optimizer.step()
                outputs |= after(k + 1, way_back(pack))
        return inputs_of(samples), outputs | {"train/loss": torch.stack(losses),
                                              "train/norm": torch.stack(norms)}

    group.case("steps", run, module="train/steps", pack="micro", spec="5",
               upstream="golden/train_torch.py, torch.optim.AdamW, torch.nn.utils.clip_grad_norm_",
               parameters=PLAIN | {"settings": settings, "batch": 1, "batches": 2, "steps": STEPS,
                                   "eps": 1e-5} | OPTIMIZER)

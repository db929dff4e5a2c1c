"""DDIM: timesteps, alphas_cumprod and whole trajectories of diffusers' DDIMScheduler.

golden/data/schedule/<case>/scheduler_config.json  what the scheduler is built from, as upstream
    saves it; "defaults" leaves every key out, "pndm_config" is the file of Stable Diffusion 1.5
    itself, a PNDM's, read by DDIM
golden/data/schedule.safetensors                   all the rest; metadata "steps:<case>", "eta:<case>"

    <case>/latents          [4, h, w]     x before the first step
    <case>/model_outputs    [n, 4, h, w]  what the U-Net is taken to have said at step 0 .. n-1
    <case>/noise            [n, 4, h, w]  only with eta > 0
    <case>/timesteps        [n] int64
    <case>/latents.<k>      [4, h, w]     x after step k = 1 .. n
    <case>/alphas_cumprod   [num_train_timesteps], in the cases where it is a new one
    timesteps/<spacing>/count, .../sum    [1000] int64: for every number of steps n = 1 .. 1000
                            (1000 training steps, steps_offset 0), how many timesteps there are and
                            sum_k (k + 1) t_k, so that no rounding of any n can differ unseen
    add_noise/{samples,noise,timesteps}, add_noise/noisy

Truth: the upstream class with its betas in float64 (f64.py). Yardstick: upstream as it is.

Lines of scheduling_ddim.py (0.42.1) that decide: set_timesteps (np.round and ndarray.round round
half to even; np.arange's element i is start + i * ((start + step) - start), which matters at
ties), step 1 (prev_timestep = t - N // n in every spacing, not the next timestep), step 4 (clip x0
only), step 6 (the unclipped epsilon), _get_variance.

Two corners of upstream that no case enters: with "trailing" and some n (61, 103, 121, ...)
np.arange yields one element more than n, a timestep -1, and step() then reads alphas_cumprod[-1];
with zero terminal SNR and eta 1 the radicand of step 6 is 0 at t = 999, and rounding makes it
negative for some n (1, 2, 7, ...), hence NaN.
"""

import json
import shutil

import numpy as np
import torch
from diffusers import DDIMScheduler

from common import DATA, Golden, draw, generator
from f64 import precision


# Stable Diffusion 1.x, as its scheduler_config.json has it.
SD = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)
ZERO_SNR = dict(
    SD,
    prediction_type="v_prediction",
    timestep_spacing="trailing",
    rescale_betas_zero_snr=True,
)


# scheduler/scheduler_config.json of Stable Diffusion 1.5.
PNDM = dict(
    _class_name="PNDMScheduler",
    _diffusers_version="0.6.0",
    beta_end=0.012,
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    clip_sample=False,
    num_train_timesteps=1000,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
    trained_betas=None,
)


def cases():
    """name -> (config, steps, eta, whether alphas_cumprod is stored)"""
    table = {}

    def add(name, steps, eta=0.0, alphas=False, base=SD, **changes):
        assert name not in table
        table[name] = (dict(base, **changes), steps, eta, alphas)

    add("sd", 20, alphas=True)
    add("sd_50", 50)
    add("sd_1", 1)
    add("sd_2", 2, eta=1.0)
    add("sd_7", 7, eta=0.5)
    add("sd_999", 3, num_train_timesteps=999)
    add("defaults", 7, base={}, alphas=True)  # linear, clip to 1, alpha to one, no offset
    add("defaults_ancestral", 7, eta=1.0, base={})
    add("clip_2", 7, clip_sample=True, clip_sample_range=2.0)
    add("clip_v", 7, eta=0.5, clip_sample=True, prediction_type="v_prediction")
    add("clip_sample_prediction", 7, clip_sample=True, prediction_type="sample")
    add("linspace", 7, timestep_spacing="linspace")
    add("linspace_1", 1, timestep_spacing="linspace")
    add("linspace_ancestral", 20, eta=1.0, timestep_spacing="linspace", set_alpha_to_one=True)
    add("trailing", 7, timestep_spacing="trailing")
    add("trailing_48", 48, eta=0.5, timestep_spacing="trailing", set_alpha_to_one=True)
    add("trailing_1", 1, timestep_spacing="trailing", set_alpha_to_one=True)
    add("v", 20, prediction_type="v_prediction")
    add("v_ancestral", 7, eta=1.0, prediction_type="v_prediction", set_alpha_to_one=True)
    add("sample", 7, prediction_type="sample")
    add("sample_ancestral", 7, eta=1.0, prediction_type="sample")
    add("offset_0", 7, eta=0.5, steps_offset=0)
    add("squaredcos", 7, eta=0.5, beta_schedule="squaredcos_cap_v2", alphas=True)
    add("linear", 20, beta_schedule="linear", set_alpha_to_one=True, alphas=True)
    add("zero_snr", 20, base=ZERO_SNR, alphas=True)
    add("zero_snr_ancestral", 7, eta=0.5, base=ZERO_SNR, set_alpha_to_one=True)
    linear_zero_snr = dict(ZERO_SNR, beta_schedule="linear")
    add("zero_snr_sample", 7, base=linear_zero_snr, prediction_type="sample", alphas=True)
    add("zero_snr_epsilon", 7, base=ZERO_SNR, prediction_type="epsilon", timestep_spacing="leading")
    trained = [round(1e-3 + 2e-4 * i, 6) for i in range(100)]
    add("trained_100", 7, eta=1.0, num_train_timesteps=100, trained_betas=trained, alphas=True)
    add("sd_100", 20, num_train_timesteps=100, alphas=True)
    add("pndm_config", 7, base=PNDM)
    return table


def write_config(name, config):
    path = DATA / "schedule" / name
    if "_class_name" not in config:
        DDIMScheduler(**config).save_pretrained(path)
        if name != "defaults":
            return
        config = {"_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1"}
    path.mkdir(parents=True, exist_ok=True)
    (path / "scheduler_config.json").write_text(json.dumps(config, indent=2) + "\n")


def trajectory(name, steps, eta, alphas):
    def run(seed, dtype):
        gen = generator("schedule", name, seed)
        shape = (4, 2, 3)
        inputs = {
            "latents": draw(gen, *shape, dtype=dtype),
            "model_outputs": draw(gen, steps, *shape, dtype=dtype),
        }
        if eta > 0:
            inputs["noise"] = draw(gen, steps, *shape, dtype=dtype)
        with precision(dtype):
            s = DDIMScheduler.from_pretrained(DATA / "schedule" / name)
            s.set_timesteps(steps)
            assert s.betas.dtype == s.alphas_cumprod.dtype == s.final_alpha_cumprod.dtype == dtype
            assert len(s.timesteps) == steps
            outputs = {"alphas_cumprod": s.alphas_cumprod} if alphas else {}
            x = inputs["latents"][None]
            for k, t in enumerate(s.timesteps):
                noise = inputs["noise"][k][None] if eta > 0 else None
                x = s.step(
                    inputs["model_outputs"][k][None], t, x, eta=eta, variance_noise=noise
                ).prev_sample
                assert x.dtype == dtype and torch.isfinite(x).all(), (name, k)
                outputs[f"latents.{k + 1}"] = x[0]
        inputs["timesteps"] = s.timesteps
        return inputs, outputs

    return run


def every_count(golden):
    weights = np.arange(1, 1002)
    for spacing in ("leading", "linspace", "trailing"):
        s = DDIMScheduler(timestep_spacing=spacing)
        count, total = [], []
        for n in range(1, 1001):
            s.set_timesteps(n)
            t = s.timesteps.numpy()
            count.append(len(t))
            total.append(int((t * weights[: len(t)]).sum()))
        golden.put(f"timesteps/{spacing}/count", torch.tensor(count))
        golden.put(f"timesteps/{spacing}/sum", torch.tensor(total))


def add_noise(seed, dtype):
    gen = generator("schedule", "add_noise", seed)
    inputs = {
        "samples": draw(gen, 4, 4, 2, 3, dtype=dtype),
        "noise": draw(gen, 4, 4, 2, 3, dtype=dtype),
        "timesteps": torch.tensor([0, 1, 261, 999]),
    }
    with precision(dtype):
        noisy = DDIMScheduler(**SD).add_noise(inputs["samples"], inputs["noise"], inputs["timesteps"])
    return inputs, {"noisy": noisy}


def main():
    golden = Golden("schedule")
    shutil.rmtree(DATA / "schedule", ignore_errors=True)
    for name, (config, steps, eta, alphas) in cases().items():
        write_config(name, config)
        golden.metadata["steps:" + name] = steps
        golden.metadata["eta:" + name] = eta
        golden.case(name + "/", trajectory(name, steps, eta, alphas))
    every_count(golden)
    golden.case("add_noise/", add_noise)
    golden.save()


if __name__ == "__main__":
    main()

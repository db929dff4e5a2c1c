"""Six samplers: whole trajectories of diffusers' schedulers, from text and from images.

golden/data/samplers/<config>/scheduler_config.json   what the scheduler is built from: only the keys
    that are said, so that each class takes its own defaults for the others. A scheduler of another
    class than the file's is Other.from_config(Own.from_pretrained(file).config).
golden/data/samplers.safetensors; metadata "sampler:<case>", "config:<case>", "steps:<case>",
    "eta:<case>", "strength:<case>" (0: from text)

    <case>/latents          [4, h, w]     unit noise; with strength the clean latents
    <case>/model_outputs    [n, 4, h, w]  what the U-Net is taken to have said at evaluation 0 .. n-1
    <case>/noise            [n, 4, h, w]  what randn_tensor gives where upstream calls it
    <case>/draws            [n] int64     whether it does
    <case>/first_noise      [4, h, w]     with strength
    <case>/timesteps        [n]           float, as Euler's are
    <case>/init_noise_sigma [1]           from text
    <case>/latents.0        [4, h, w]     the latents that the first evaluation takes
    <case>/input.<k>        [4, h, w]     scale_model_input before evaluation k, where it is not x
    <case>/latents.<k>      [4, h, w]     after evaluation k = 1 .. n
    <case>/renoised.<k>     [4, h, w]     with strength: the clean latents with first_noise as at
                                          evaluation k, as inpainting wants them
    timesteps/<sampler>_<config>  [1000]  for every number of steps 1 .. 1000: sum_k (k + 1) (t_k + 1),
                                          0 where upstream has no timesteps

Truth: upstream's classes with every float32, numpy's too, read as float64 (f64.py). Yardstick:
upstream as it is. Without begin_index upstream looks the first timestep up in its list; no case has
it twice there. Timestep -1, which "trailing" has for some numbers of steps, is dropped (samplers.h).
"""

import json
import shutil
from unittest import mock

import diffusers
import torch
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
)

from common import DATA, Golden, draw, generator
from export_schedule import PNDM as SD15
from f64 import precision

CLASSES = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "pndm": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
}
DRAWING = (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
)

SD = {k: v for k, v in SD15.items() if k not in ("_diffusers_version", "trained_betas")}
V = dict(SD, prediction_type="v_prediction")
ZERO_SNR = dict(V, timestep_spacing="trailing", rescale_betas_zero_snr=True)
COSINE = dict(SD, beta_schedule="squaredcos_cap_v2")
KARRAS = dict(SD, use_karras_sigmas=True)
TRAINED = dict(SD, num_train_timesteps=100,
               trained_betas=[round(1e-3 + 2e-4 * i, 6) for i in range(100)])


def configs():
    table = {
        "sd15": SD15,
        "sd": SD,
        "v": V,
        "sample": dict(SD, prediction_type="sample"),
        "zero_snr": ZERO_SNR,
        "cosine": COSINE,
        "linear": dict(SD, beta_schedule="linear", steps_offset=0),
        "trained": TRAINED,
        "clip": dict(SD, clip_sample=True, clip_sample_range=1.5),
        "alpha_to_one": dict(SD, set_alpha_to_one=True),
        "fixed_small_log": dict(V, variance_type="fixed_small_log"),
        "fixed_large": dict(SD, variance_type="fixed_large"),
        "prk": dict(SD, skip_prk_steps=False),
        "prk_v_linspace": dict(V, skip_prk_steps=False, timestep_spacing="linspace"),
        "prk_trailing": dict(SD, skip_prk_steps=False, timestep_spacing="trailing"),
        "karras": KARRAS,
        "karras_v": dict(V, use_karras_sigmas=True),
        "karras_leading": dict(KARRAS, timestep_spacing="leading"),
        "karras_trailing": dict(KARRAS, timestep_spacing="trailing"),
        "karras_ends": dict(KARRAS, sigma_min=0.1, sigma_max=9.5),
        "karras_cosine": dict(COSINE, use_karras_sigmas=True),
        "karras_zero_snr": dict(ZERO_SNR, use_karras_sigmas=True),
        "sigma_min": dict(SD, final_sigmas_type="sigma_min"),
        "sigma_min_heun": dict(SD, final_sigmas_type="sigma_min", solver_type="heun"),
        "sigma_min_plain": dict(SD, final_sigmas_type="sigma_min", lower_order_final=False),
        "sigma_min_euler": dict(SD, final_sigmas_type="sigma_min", euler_at_final=True),
        "karras_sigma_min": dict(KARRAS, final_sigmas_type="sigma_min"),
        "heun": dict(SD, solver_type="heun"),
        "not_lower": dict(SD, lower_order_final=False),
        "clipped_linspace": dict(COSINE, lambda_min_clipped=-5.1),
        "clipped_leading": dict(COSINE, lambda_min_clipped=-5.1, timestep_spacing="leading"),
        "clipped_trailing": dict(COSINE, lambda_min_clipped=-5.1, timestep_spacing="trailing"),
        # As diffusers saves it, which is no JSON
        "infinity": dict(SD, lambda_min_clipped=-float("inf")),
        # Another solver's word, read as "midpoint"
        "bh2": dict(SD, solver_type="bh2"),
    }
    for spacing in ("leading", "linspace", "trailing"):
        table[spacing] = dict(SD, timestep_spacing=spacing)
        table[spacing + "_v"] = dict(V, timestep_spacing=spacing)
    for sampler, name in CLASSES.items():
        table["defaults_" + sampler] = {"_class_name": name}
    return table


def cases():
    """name -> (sampler, config, steps, eta, strength)"""
    table = {}

    def add(sampler, config, *steps, eta=0.0, strength=0.0):
        for n in steps:
            name = f"{sampler}_{config}_{n}" + (f"_from_{strength}" if strength else "")
            assert name not in table, name
            table[name] = (sampler, config, n, eta, strength)

    for sampler in CLASSES:
        eta = 0.6 if sampler == "ddim" else 0.0
        add(sampler, "sd15", 1, 2, 20, eta=eta)
        add(sampler, "v", 2, 20, eta=eta)
        for config in ("leading", "linspace", "trailing"):
            add(sampler, config, 7, eta=eta)
            add(sampler, config + "_v", 7, eta=eta)
        add(sampler, "defaults_" + sampler, 7, eta=eta)
        for config in ("cosine", "linear", "trained"):
            add(sampler, config, 7, eta=eta)
        add(sampler, "zero_snr", 7)
        add(sampler, "sd", 7, eta=eta, strength=0.6)
        add(sampler, "v", 20, eta=eta, strength=0.35)
        add(sampler, "linspace", 7, eta=eta, strength=1.0)
    for sampler in ("ddpm", "ddim", "euler", "dpm++2m"):
        add(sampler, "sample", 7)
    for config in ("clip", "fixed_small_log", "fixed_large"):
        add("ddpm", config, 7)
    add("pndm", "alpha_to_one", 7)
    add("pndm", "prk", 4, 5, 7, 20)
    add("pndm", "prk_v_linspace", 7)
    add("pndm", "prk_trailing", 7)
    add("pndm", "prk", 7, strength=0.6)
    for sampler in ("euler", "dpm++2m"):
        add(sampler, "karras", 2, 7, 20)
        add(sampler, "karras_leading", 1)
        for config in ("karras_v", "karras_leading", "karras_trailing", "karras_ends",
                       "karras_zero_snr", "sigma_min", "karras_sigma_min"):
            add(sampler, config, 7)
        # DPM-Solver cuts these timesteps to integers, and float32's first two are then the same
        add(sampler, "karras_cosine", 7, strength=1.0)
        add(sampler, "karras", 7, strength=0.6)
    add("euler", "karras_trailing", 61)
    add("euler_a", "sigma_min", 7)  # whose class has no such key
    for config in ("sigma_min_heun", "sigma_min_plain", "heun", "not_lower"):
        add("dpm++2m", config, 7)
    for config in ("sigma_min", "sigma_min_euler", "heun"):
        add("dpm++2m", config, 15)
    add("dpm++2m", "sigma_min", 14)
    for config in ("clipped_linspace", "clipped_leading", "clipped_trailing", "infinity", "bh2"):
        add("dpm++2m", config, 7)
    return table


def build(sampler, config):
    path = DATA / "samplers" / config
    own = getattr(diffusers, configs()[config]["_class_name"]).from_pretrained(path)
    scheduler = getattr(diffusers, CLASSES[sampler]).from_config(own.config)
    assert type(scheduler).__name__ == CLASSES[sampler]
    return scheduler


def trajectory(name, sampler, config, steps, eta, strength):
    def run(seed, dtype):
        shape = (4, 2, 3)
        gen = generator("samplers", name, seed)
        inputs = {"latents": draw(gen, *shape, dtype=dtype)}
        outputs, draws = {}, []
        if strength:
            inputs["first_noise"] = draw(gen, *shape, dtype=dtype)
        with precision(dtype):
            s = build(sampler, config)
            assert s.alphas_cumprod.dtype == dtype
            s.set_timesteps(steps)
            timesteps = s.timesteps
            first = max(steps - min(int(steps * strength), steps), 0) if strength else 0
            if strength:  # StableDiffusionImg2ImgPipeline.get_timesteps
                timesteps = timesteps[first * s.order :]
                if hasattr(s, "set_begin_index"):
                    s.set_begin_index(first * s.order)
            elif sampler != "pndm":  # whose list repeats timesteps, and which looks none up
                assert (timesteps == timesteps[0]).sum() == 1
            if hasattr(s, "sigmas"):
                assert s.sigmas.dtype == dtype
            assert timesteps.dtype in (torch.int64, dtype) or sampler == "euler_a"
            timesteps = timesteps[timesteps >= 0]
            n = len(timesteps)
            inputs["model_outputs"] = draw(gen, n, *shape, dtype=dtype)
            noise = draw(gen, n, *shape, dtype=dtype)

            def randn_tensor(*args, **kwargs):
                draws.append(k)
                return noise[k][None]

            def noisy(t):
                return s.add_noise(inputs["latents"][None], inputs["first_noise"][None], t[None])

            if strength:
                x = noisy(timesteps[0])
            else:
                x = inputs["latents"][None] * s.init_noise_sigma
                sigma = torch.as_tensor(s.init_noise_sigma, dtype=dtype)
                outputs["init_noise_sigma"] = sigma.reshape(1)
            outputs["latents.0"] = x[0]
            accepts_eta = {"eta": eta} if sampler == "ddim" else {}
            patches = [mock.patch.object(m, "randn_tensor", randn_tensor) for m in DRAWING]
            for patch in patches:
                patch.start()
            for k, t in enumerate(timesteps):
                shown = s.scale_model_input(x, t)
                if shown is not x:
                    outputs[f"input.{k}"] = shown[0]
                x = s.step(inputs["model_outputs"][k][None], t, x, **accepts_eta).prev_sample
                assert x.dtype == dtype and torch.isfinite(x).all(), (name, k)
                outputs[f"latents.{k + 1}"] = x[0]
                if strength and k + 1 < n:
                    outputs[f"renoised.{k + 1}"] = noisy(timesteps[k + 1])[0]
            for patch in patches:
                patch.stop()
            outputs["timesteps"] = timesteps.to(dtype)
        if draws:
            inputs["noise"] = noise
        inputs["draws"] = torch.tensor([int(k in draws) for k in range(n)])
        assert len(draws) == len(set(draws))
        return inputs, outputs

    return run


def every_count(golden):
    places = [("pndm", c) for c in ("leading", "linspace", "trailing", "prk", "prk_v_linspace",
                                    "prk_trailing")]
    places += [(s, c) for s in ("euler", "dpm++2m") for c in ("leading", "linspace", "trailing")]
    places += [("dpm++2m", "clipped_linspace"), ("dpm++2m", "clipped_trailing")]
    for sampler, config in places:
        with precision(torch.float64):
            s, sums = build(sampler, config), []
            for n in range(1, 1001):
                if "prk" in config and n < 4 or (sampler, config, n) == ("dpm++2m", "leading", 1000):
                    sums.append(0.0)  # upstream raises; all its timesteps are the same
                    continue
                s.set_timesteps(n)
                t = s.timesteps.double()
                t = t[t >= 0]
                sums.append(((t + 1) * torch.arange(1, len(t) + 1)).sum().item())
        sums = torch.tensor(sums, dtype=torch.float64)
        golden.truth(f"timesteps/{sampler}_{config}", sums, 0.0)


def main():
    golden = Golden("samplers")
    shutil.rmtree(DATA / "samplers", ignore_errors=True)
    for name, config in configs().items():
        path = DATA / "samplers" / name
        path.mkdir(parents=True)
        (path / "scheduler_config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name, case in cases().items():
        for key, value in zip(("sampler", "config", "steps", "eta", "strength"), case):
            golden.metadata[f"{key}:{name}"] = value
        golden.case(name + "/", trajectory(name, *case))
    every_count(golden)
    golden.save()


if __name__ == "__main__":
    main()

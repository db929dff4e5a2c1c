"""Does the readable port do what upstream does, where upstream does it too? In float64, to 1e-12.

- With a1 = 1, a2 = 0 it draws what diffusers' StableDiffusionPipeline draws from the same phi(c):
  the whole loop of guidance, DDIM and VAE, with and without sampler noise.
- It draws what StableDiffusionImg2ImgPipeline and StableDiffusionInpaintPipeline draw with Eq. 9:
  every case of export_image.py, and larger ones with the VAE in tiles.
- Traced and forced through hooks.py, StableDiffusionPipeline with Eq. 9 shows every activation that
  the port shows, under the same name.
- Without the word score, g = 1, noise off: c is x^0, and upstream's final norm of it is upstream's
  last_hidden_state.
- The word pass of a block is the block on that row alone, at its own position.
- A fresh adapter leaves the U-Net as it was.
"""

from unittest import mock

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion
from diffusers.schedulers import scheduling_ddim

import export_image
import hooks
from common import HERE, draw, generator, relative_error
from f64 import lift, lifted
from hooks import Trace
from llmdiff_torch import (Adapter, Eq9, attn2_paths, draw_noise, encode, evaluate, generate,
                           load_pack, prompt_ids, scores)

MICRO = HERE / "micro"


def upstream_unet():
    return lift(UNet2DConditionModel.from_pretrained(MICRO / "unet", torch_dtype=torch.float32))


def same(what, got, truth):
    error = relative_error(got, truth)
    assert error <= 1e-12, (what, error)
    print(f"{what}: {error:.1e}")


def diffusers_pipeline():
    only_original = {"a1": 1.0, "b1": 0.0, "a2": 0.0, "b2": 0.0}
    pack = load_pack(MICRO, torch.float64, overrides=only_original)
    ids = prompt_ids(pack, "a red circle")
    ids["uncond/"] = ids[""][::-1]  # diffusers wants both prompts of one length
    pipeline = StableDiffusionPipeline(
        vae=pack.vae, unet=upstream_unet(), scheduler=pack.scheduler, text_encoder=None,
        tokenizer=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    for eta in (0.0, 0.7):
        walk = {"cfg_scale": 7.5, "eta": eta, "steps": 4}
        noise = draw_noise(pack, ids, 7, 4, eta, 16, 24)
        start, *sampler = (x[None].double() for k, x in noise.items() if "alg1/" not in k)
        with lifted():
            generate(pack, ids, noise, see=(trace := Trace()), **walk)
            pipeline.scheduler.step = with_noise(type(pack.scheduler).step, pack.scheduler, iter(sampler))
            theirs = pipeline(
                prompt_embeds=trace["adapter/phi_c"][None],
                negative_prompt_embeds=trace["uncond/adapter/phi_c"][None],
                latents=start, guidance_scale=7.5, eta=eta,
                num_inference_steps=4, height=16, width=24, output_type="latent").images[0]
            del pipeline.scheduler.step
        same(f"latents of StableDiffusionPipeline, eta {eta}", trace["latents/4"], theirs)


def hooked_pipeline():
    pack = load_pack(MICRO, torch.float64)
    ids = prompt_ids(pack, "a red circle")
    ids["uncond/"] = ids[""][::-1]
    noise = draw_noise(pack, ids, 7, 3, 0.6, 16, 24)
    pipeline = StableDiffusionPipeline(
        vae=pack.vae, unet=pack.unet, scheduler=pack.scheduler, text_encoder=None, tokenizer=None,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    drawn = [x.double()[None] for k, x in noise.items() if k.startswith(("latents", "sampler"))]

    def hooked(force=None):
        draws = iter(drawn)
        given = lambda *args, **kwargs: next(draws)
        with (lifted(), mock.patch.object(pipeline_stable_diffusion, "randn_tensor", given),
              mock.patch.object(scheduling_ddim, "randn_tensor", given),
              hooks.trace(pipeline, llm=pack.llm, force=force) as seen):
            context = {}
            for prefix, tokens in ids.items():
                pack.llm(torch.tensor([tokens]))
                c = (force or trace)[prefix + "alg1/c.0"]
                phi_c = seen(prefix + "adapter/phi_c", pack.adapter.phi(c))
                context[prefix] = torch.cat([phi_c, c], -1)[None]
            pipeline(prompt_embeds=context[""], negative_prompt_embeds=context["uncond/"],
                     guidance_scale=7.5, eta=0.6, num_inference_steps=3, height=16, width=24,
                     output_type="pt")
        return seen

    with lifted():
        generate(pack, ids, noise, see=(trace := Trace()), steps=3, cfg_scale=7.5, eta=0.6)
    seen = hooked()
    not_upstreams = {name for name in trace if "alg1/" in name}
    assert seen.keys() | not_upstreams == trace.keys(), seen.keys() ^ trace.keys()
    worst = max(seen, key=lambda name: relative_error(seen[name], trace[name]))
    same(f"hooks.py, worst of {len(seen)}: {worst}", seen[worst], trace[worst])

    # Forced from another run's values: each stage's own result, as the port has it when it is forced.
    other = {name: x if x.dtype == torch.int64 or name.endswith("/t") else x + 0.01 * x.abs().max()
             for name, x in trace.items()}
    with lifted():
        generate(pack, ids, noise, see=(trace := Trace(other)), steps=3, cfg_scale=7.5, eta=0.6)
    forced = hooked(other)
    worst = max(forced, key=lambda name: relative_error(forced[name], trace[name]))
    same(f"forced, worst of {len(forced)}: {worst}", forced[worst], trace[worst])
    assert relative_error(forced["image"], seen["image"]) > 1e-3


def with_noise(step, scheduler, noise):
    def given(*args, eta, **kwargs):
        return step(scheduler, *args, eta=eta, variance_noise=next(noise) if eta else None, **kwargs)

    return given


def diffusers_image_pipelines():
    pack = load_pack(MICRO, torch.float64)
    large = {"height": 20, "width": 30}
    cases = [(name, {}) for name in export_image.CASES]
    for name, size in cases + [("img2img", large), ("inpaint_part", large)]:
        case = export_image.PLAIN | export_image.CASES[name] | size
        pack.vae.use_tiling = size is large
        walk = {k: case[k] for k in export_image.WALK}
        ids, noise, init, mask = export_image.inputs_of(pack, name, case, 7)
        with lifted():
            generate(pack, ids, noise, init=init, mask=mask, see=(trace := Trace()), **walk)
            contexts = export_image.contexts_of(pack, ids, noise)
            theirs = export_image.upstream(pack, contexts, noise, init, mask, **walk)
        latents = {name for name in theirs if name.startswith("latents/")}
        assert latents | {"latents/0"} == {name for name in trace if name.startswith("latents/")}
        if size is large:
            del theirs["vae/encoder/conv_out"]  # of one tile
        worst = max(theirs, key=lambda key: relative_error(trace[key], theirs[key]))
        same(f"{name}{' in tiles' * (size is large)}, worst of {len(theirs)}: {worst}", trace[worst],
             theirs[worst])


def exact_facts():
    pack = load_pack(MICRO, torch.float64, overrides={"noise": False, "word_score": False})
    ids = prompt_ids(pack, "a red circle to the left of a blue square")[""]
    pack.adapter.g.fill_(1)
    trace = Trace()
    with lifted():
        encode(pack, ids, {}, trace)
        model = pack.llm.model
        same("c without the word score is x^0", trace["alg1/c.0"], trace["llm/x.0"])
        same("x^0 under the final norm", model.final_layernorm(trace["llm/x.0"]),
             model(torch.tensor([ids])).last_hidden_state[0])

        x, _, s_word = scores(pack.llm, ids)
        d, row = 3, x[1][3][None, None]
        tables = model.rotary_emb(row, torch.tensor([[d]]))
        alone = model.layers[1](row, position_embeddings=tables, attention_mask=None)
        same("the word pass is the row alone", (alone - row)[0, 0], s_word[1][d])


def fresh_adapter():
    pack = load_pack(MICRO, torch.float64)
    fresh = Adapter(pack.settings, pack.llm.config, pack.unet).double()
    for path in attn2_paths(pack.unet):
        pack.unet.get_submodule(path).set_processor(Eq9(path, fresh.get_submodule(path), pack.settings))
    gen = generator("fresh")
    z, context = draw(gen, 4, 6, 10), draw(gen, 1, 5, 28 + 40)
    t = torch.tensor(501)
    unet = upstream_unet()
    with lifted():
        theirs = unet(z[None], t, context[..., :28]).sample[0]
        same("a fresh adapter", evaluate(pack, z, t, context), theirs)


if __name__ == "__main__":
    with torch.no_grad():
        diffusers_pipeline()
        hooked_pipeline()
        diffusers_image_pipelines()
        exact_facts()
        fresh_adapter()

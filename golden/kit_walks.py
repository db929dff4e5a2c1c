"""The kit's walks: from given ids and noise through several stages, free and forced.

    algorithm1*   ids, alg1/eps.{t}, alg1/c.{T} -> llm/..., alg1/..., adapter/...
    unet*         unet/0/{sample,t}, adapter/phi_c, alg1/c.0 and, with guidance, both of uncond/
                  -> one evaluation, unet/0/...
    picture*      everything; with image_in and mask_in image to image and inpainting. `picture` holds every
                  activation, the others what KEPT says: forced means forced there, too

The order is that of judging.
"""

import re

import torch

import export_baseline
import export_image
import export_llm
import export_pipeline
import hooks
from common import HERE, draw, generator
from f64 import precision
from llmdiff_torch import evaluate, load_pack

MICRO = HERE / "micro"
QUIET = {"noise": False}
ALGORITHM1 = {  # number of tokens (None: the prompt's), settings
    "": (None, {}),
    "_quiet": (None, QUIET),
    "_one_token": (1, QUIET),
    "_long": (30, QUIET),
    "_difference": (None, {"score": "difference"}),
    "_no_word": (None, QUIET | {"word_score": False}),
    "_zeros": (None, QUIET | {"init": "zeros"}),
    "_normal": (None, {"init": "normal"}),
    "_rms": (None, QUIET | {"normalize": "rms"}),
    "_blocks": (None, {"blocks": [1, 2], "score": "difference"}),
    "_scales": (None, {"g_scale": 0.7, "h_scale": 2.5}),
}
UNETS = {  # adapter, height and width of the latents, t, cfg_scale
    "": ("adapter", 8, 8, 501.0, 7.5),
    "_c": ("adapter_c", 6, 4, 999.0, 3.0),
    "_shared": ("adapter_shared", 4, 6, 1.0, 7.5),
    "_odd": ("adapter", 5, 7, 261.25, 1.0),
}
KEPT = r"(uncond/)?(ids|alg1/c\.0|adapter/.*|text/final_layer_norm)|latents/.*|sampler/.*|image" \
       r"|vae/encoder/(noise|conv_out)|unet/\d+/(sample|t|.*eps)"


def walks(kit):
    for name, (length, settings) in ALGORITHM1.items():
        run = export_llm.walker("kit" + name, length, settings)
        prompt = {} if length else {"prompt": export_llm.PROMPT}
        kit.walk("algorithm1" + name, "algorithm1", run, pack="micro", adapter="adapter", spec="2, 3",
                 zeros=["alg1/c.3"] if settings.get("init") == "zeros" else (),
                 parameters=prompt | {"settings": settings})
    for name, (adapter, h, w, t, cfg_scale) in UNETS.items():
        kit.walk("unet" + name, "unet", evaluation(name, adapter, h, w, t, cfg_scale), pack="micro",
                 adapter=adapter, spec="4, 6", parameters={"cfg_scale": cfg_scale, "settings": {}})
    pictures(kit)


def evaluation(name, adapter, h, w, t, cfg_scale):
    packs = {}

    def run(seed, dtype, force=None):
        if dtype not in packs:
            packs[dtype] = load_pack(MICRO, dtype, MICRO / adapter)
        pack, gen = packs[dtype], generator("kit", "unet", name, seed)
        inputs = {"unet/0/sample": draw(gen, 4, h, w), "unet/0/t": torch.tensor(t, dtype=torch.float64)}
        for prefix, N in ({"": 6} | ({"uncond/": 3} if cfg_scale != 1 else {})).items():
            inputs |= {prefix + "adapter/phi_c": draw(gen, N, 28), prefix + "alg1/c.0": draw(gen, N, 40)}
        see = hooks.Trace(force)
        see_unet = hooks.under("unet/0/", see)

        def side(prefix, name):
            given = [inputs[prefix + k].to(dtype) for k in ("adapter/phi_c", "alg1/c.0")]
            return evaluate(pack, inputs["unet/0/sample"].to(dtype), inputs["unet/0/t"],
                            torch.cat(given, -1)[None], name, see_unet)

        with torch.no_grad(), precision(dtype):
            eps = side("", "cond")
            if cfg_scale != 1:
                uncond = side("uncond/", "uncond")
                eps = uncond + cfg_scale * (eps - uncond)
            see_unet("eps", eps)
        return inputs, see

    return run


# ---- pictures ------------------------------------------------------------------------------------


def kept(name):
    return re.fullmatch(KEPT, name) is not None


def pictures(kit):
    def from_prompt(name, keep, **case):
        case = export_pipeline.PLAIN | case
        kit.walk(name, "picture", export_pipeline.walker(name, case), keep, pack="micro",
                 adapter=case["adapter"], spec="3 to 6",
                 parameters=parameters(case, export_pipeline.PROMPT, case["sampler"]))

    from_prompt("picture", lambda name: True, height=12, width=8)
    from_prompt("picture_eta", kept, eta=0.7, height=10, width=14, negative="two dogs", cfg_scale=3.0)
    from_prompt("picture_euler_a", kept, sampler="euler_a", adapter="adapter_c", height=10, width=12)
    from_prompt("picture_pndm", kept, sampler="pndm", adapter="adapter_shared", steps=4, height=8, width=8)
    from_prompt("picture_dpm2m", kept, sampler="dpm++2m", steps=4, height=8, width=12, cfg_scale=1.0)

    for name in ("img2img", "inpaint_part"):
        case = export_image.PLAIN | export_image.CASES[name]
        kit.walk(f"picture_{name.removesuffix('_part')}", "picture", export_image.walker(name, case), kept,
                 pack="micro", adapter="adapter", spec="6",
                 parameters=parameters(case | {"negative": export_image.NEGATIVE, "settings": {}},
                                       export_image.PROMPT) | {"strength": case["strength"]})

    case = export_baseline.PLAIN | {"height": 8, "width": 16, "steps": 2, "negative": "two dogs"}
    kit.walk("picture_clip", "picture", export_baseline.walker("kit", case), kept, pack="micro",
             text_encoder="micro_clip", spec="6",
             parameters=parameters(case | {"eta": 0.0}, case["prompt"]) | {"clip_skip": 0})


def parameters(case, prompt, sampler=None):
    told = {"prompt": prompt, "negative_prompt": case["negative"]}
    told |= {k: case[k] for k in ("steps", "cfg_scale", "eta", "width", "height")}
    told |= {"sampling_method": sampler or "ddim"}
    return told | ({"settings": case["settings"]} if "settings" in case else {})

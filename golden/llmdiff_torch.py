"""llmdiff in PyTorch: Algorithm 1 and Eq. 9 of arXiv 2502.04412 over the upstream classes.

    python golden/llmdiff_torch.py weights/tiny -p "a small red circle to the left of a large blue square"

The walk is main() and generate(): prompt -> ids -> Algorithm 1 -> phi(c) -> U-Net
with Eq. 9 in every cross-attention -> sampler -> VAE -> picture. Symbols are those of the paper: D is
the LLM's width, N the tokens, T the blocks; time t runs down, block index l = T - t. Every activation
is shown to `see` under the name that `llmdiff --trace` gives it, and what see(name, x) returns goes on:
x itself, or a reference's (--force). Upstream's own modules are shown by hooks.py.
"""

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import hooks
from f64 import lift, lifted
from hooks import nobody, under

DEFAULTS = {
    "init": "embedding",      # c^T: the token embeddings; "zeros"; "normal"
    "noise": True,            # the term sqrt(2 h(t)) eps_t
    "score": "residual",      # "difference": g(t) (delta_{t+1} - delta_t)
    "word_score": True,       # False leaves S_word out
    "normalize": "none",      # "rms": each token's c over its root mean square
    "blocks": None,           # [first, last]: the blocks l that take part
    "g_scale": 1.0,
    "h_scale": 1.0,
    "tau_input": "phi_c",     # what tau_k and tau_v read; "c" as Eq. 9 is printed
    "out": "own",             # A's own output projection; "shared": the frozen one for both
    "layers": None,           # attn2 module paths that blend; the others keep the original
    "a1": None, "b1": None, "a2": None, "b2": None,  # a number in place of every layer's own
}


# ---- Algorithm 1 ---------------------------------------------------------------------------------
#
#     x^T = embedding(ids);  c = c^T
#     for t = T .. 1:
#         x^{t-1}    = F_t(x^t)                                    (causal)
#         S_sentence = F_t(x^t)[d] - x^t[d]                        token d sees tokens 1 .. d
#         S_word     = F_t(x^t[d] alone)[d] - x^t[d]               the same block, itself only
#         c          = c + g(t) (S_sentence - S_word) + sqrt(2 h(t)) eps_t
#     return c


def scores(llm, ids, word=True, see=nobody):
    """x^T .. x^0, and S_sentence and S_word of each block, by hooks on the upstream model."""
    x, s_sentence, s_word = [], [], []
    lists = {"llm/x": x, "llm/s_sentence": s_sentence, "llm/s_word": s_word}

    def collect(name, tensor):
        tensor = see(name, tensor)
        lists[name.split(".")[0]].append(tensor)
        return tensor

    with hooks.watch_llm(llm, collect, word):
        llm.model(torch.tensor([ids]), use_cache=False)
    return x, s_sentence, s_word


def algorithm1_step(c, s_sentence, s_word, before, g, h, eps, settings):
    """c after one block, and the block's delta = S_sentence - S_word (without the word score: the
    first alone). before: the delta of the block before; eps: None without noise."""
    delta = s_sentence - s_word if settings["word_score"] else s_sentence
    step = {"residual": delta, "difference": before - delta}[settings["score"]]
    c = c + settings["g_scale"] * g * step
    if eps is not None:
        c = c + torch.sqrt(2 * settings["h_scale"] * h) * eps
    return c, delta


def normalized(c):
    """Each token's c over its root mean square; a token of zeros stays zero."""
    rms = c.square().mean(-1, keepdim=True).sqrt()
    return c / torch.where(rms > 0, rms, 1)


def algorithm1(llm, ids, g, eta, settings, noise, see=nobody):
    """c [N, D]. noise holds alg1/eps.{t}, and alg1/c.{T} for init "normal". A block outside
    `blocks` adds neither score nor noise, and delta before the first that takes part is 0."""
    T = len(llm.model.layers)
    first, last = settings["blocks"] or (0, T - 1)
    h = F.softplus(eta)
    x, s_sentence, s_word = scores(llm, ids, settings["word_score"], see)

    if settings["init"] == "normal":
        c = noise[f"alg1/c.{T}"].to(x[0].dtype)
    else:
        c = {"embedding": x[0], "zeros": torch.zeros_like(x[0])}[settings["init"]]
    c = see(f"alg1/c.{T}", c)
    before = torch.zeros_like(c)
    for l in range(T):
        t = T - l
        if first <= l <= last:
            eps = None
            if settings["noise"]:
                eps = see(f"alg1/eps.{t}", noise[f"alg1/eps.{t}"].to(c.dtype))
            alone = s_word[l] if settings["word_score"] else None
            c, before = algorithm1_step(c, s_sentence[l], alone, before, g[l], h[l], eps, settings)
        c = see(f"alg1/c.{t - 1}", c)
    if settings["normalize"] == "rms":
        c = see("adapter/c", normalized(c))
    return c


# ---- Eq. 9 ---------------------------------------------------------------------------------------
#
#     f = A_hat(q, phi(c)) * a1 * exp(b1)  +  A(q, c') * a2 * exp(b2)
#
# A_hat is the layer's own, frozen cross-attention; A is the adapter's, with as many heads.


class Layer(nn.Module):
    """tau_q, tau_k, tau_v, tau_out, a1, b1, a2, b2 of one attn2; fresh: f is the original."""

    def __init__(self, attn, context, out):
        super().__init__()
        C = attn.to_q.out_features
        self.tau_q = nn.Linear(C, C, bias=False)
        self.tau_k = nn.Linear(context, C, bias=False)
        self.tau_v = nn.Linear(context, C, bias=False)
        pairs = [(self.tau_q, attn.to_q), (self.tau_k, attn.to_k), (self.tau_v, attn.to_v)]
        if out == "own":
            self.tau_out = nn.Linear(C, C)
            pairs.append((self.tau_out, attn.to_out[0]))
        for mine, original in pairs:
            if mine.weight.shape == original.weight.shape:
                mine.load_state_dict(original.state_dict())
        self.a1 = nn.Parameter(torch.ones(1))
        self.b1 = nn.Parameter(torch.zeros(1))
        self.a2 = nn.Parameter(torch.zeros(1))
        self.b2 = nn.Parameter(torch.zeros(1))


class Adapter(nn.Module):
    """All that is learned. Its state_dict has the names of adapter.safetensors."""

    def __init__(self, settings, llm_config, unet):
        super().__init__()
        D, E = llm_config.hidden_size, unet.config.cross_attention_dim
        self.phi = nn.Linear(D, E)
        self.g = nn.Parameter(torch.ones(llm_config.num_hidden_layers))
        self.eta = nn.Parameter(torch.full((llm_config.num_hidden_layers,), -12.0))
        context = {"phi_c": E, "c": D}[settings["tau_input"]]
        for path in attn2_paths(unet):
            layer = Layer(unet.get_submodule(path), context, settings["out"])
            *parents, name = path.split(".")
            room = self
            for parent in parents:
                if parent not in room._modules:
                    room.add_module(parent, nn.Module())
                room = room._modules[parent]
            room.add_module(name, layer)

    def save(self, directory, settings, llm_config, unet):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, directory / "adapter.safetensors",
                  metadata={"format": "llmdiff-adapter", "step": "0"})
        config = {"_class_name": "LLMDiffAdapter", "llm_hidden_size": llm_config.hidden_size,
                  "llm_num_blocks": llm_config.num_hidden_layers,
                  "cross_attention_dim": unet.config.cross_attention_dim, **settings, "step": 0}
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def attn2_paths(unet):
    return [name for name, _ in unet.named_modules() if name.endswith(".attn2")]


def joined_heads(q, k, v, heads):
    """softmax(Q K^T / sqrt(d)) V per head, [1, L, C], before any output projection."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Eq9:
    """The attention processor of one attn2. Its context is [phi(c), c] side by side."""

    def __init__(self, path, layer, settings):
        self.path, self.layer, self.settings = path, layer, settings
        self.see = nobody

    def __call__(self, attn, hidden_states, encoder_hidden_states, **unused):
        q, layer, settings = hidden_states, self.layer, self.settings
        E = attn.to_k.in_features
        phi_c, c = encoder_hidden_states[..., :E], encoder_hidden_states[..., E:]
        shared = settings["out"] == "shared"
        frozen_out = attn.to_out[0]
        see = lambda name, x: self.see(f"{self.path}/{name}", x)
        q = see("q", q)

        original = joined_heads(attn.to_q(q), attn.to_k(phi_c), attn.to_v(phi_c), attn.heads)
        if not shared:
            original = frozen_out(original)
        original = see("original", original)

        f = original
        if settings["layers"] is None or self.path in settings["layers"]:
            read = {"phi_c": phi_c, "c": c}[settings["tau_input"]]
            added = joined_heads(layer.tau_q(q), layer.tau_k(read), layer.tau_v(read), attn.heads)
            if not shared:
                added = layer.tau_out(added)
            added = see("added", added)
            a1, b1, a2, b2 = (self.scalar(k) for k in ("a1", "b1", "a2", "b2"))
            f = original * a1 * torch.exp(b1) + added * a2 * torch.exp(b2)
        if shared:
            f = frozen_out(f)
        return see("f", f)

    def scalar(self, name):
        number = self.settings[name]
        learned = getattr(self.layer, name)
        return learned if number is None else torch.full_like(learned, number)


# ---- a pack: a directory in Hugging Face layout --------------------------------------------------


@dataclass
class Pack:
    tokenizer: PreTrainedTokenizerBase
    llm: PreTrainedModel
    unet: diffusers.UNet2DConditionModel
    vae: diffusers.AutoencoderKL
    scheduler: diffusers.SchedulerMixin
    adapter: Adapter
    settings: dict
    dtype: torch.dtype


def load_llm(directory, dtype):
    """PhiForCausalLM, LlamaForCausalLM or MistralForCausalLM, as config.json says."""
    return loaded(AutoModelForCausalLM, directory, dtype, "dtype", attn_implementation="eager")


def loaded(kind, directory, dtype, keyword="torch_dtype", **options):
    """Stored weights in float64 exactly, in float32 exactly, in the half types rounded once."""
    float64 = dtype == torch.float64
    options[keyword] = torch.float32 if float64 else dtype
    model = kind.from_pretrained(directory, **options)
    return lift(model) if float64 else model


SAMPLERS = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
}


def load_scheduler(directory, sampler=None):
    """The directory's own scheduler, or another one with what the own one's file says."""
    name = json.loads((directory / "scheduler_config.json").read_text())["_class_name"]
    own = getattr(diffusers, name).from_pretrained(directory)
    return own if sampler is None else SAMPLERS[sampler].from_config(own.config)


def load_pack(directory, dtype=torch.float32, adapter=None, overrides=None, sampler=None,
              load_llm=load_llm):
    """overrides: settings in place of adapter/config.json's."""
    directory = Path(directory)
    adapter = Path(adapter or directory / "adapter")

    tokenizer = AutoTokenizer.from_pretrained(directory / "llm")
    llm = load_llm(directory / "llm", dtype)
    unet = loaded(diffusers.UNet2DConditionModel, directory / "unet", dtype)
    vae = loaded(diffusers.AutoencoderKL, directory / "vae", dtype)
    with lifted() if dtype == torch.float64 else nullcontext():
        scheduler = load_scheduler(directory / "scheduler", sampler)

    config = json.loads((adapter / "config.json").read_text())
    unknown = set(overrides or {}) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    settings = {k: config.get(k, v) for k, v in DEFAULTS.items()} | (overrides or {})
    learned = Adapter(settings, llm.config, unet).to(dtype)
    learned.load_state_dict(load_file(adapter / "adapter.safetensors"))
    for path in attn2_paths(unet):
        unet.get_submodule(path).set_processor(Eq9(path, learned.get_submodule(path), settings))
    return Pack(tokenizer, llm, unet, vae, scheduler, learned, settings, dtype)


def pack_defaults(directory):
    """The steps and the guidance that the pack is meant to be drawn with, else 20 and 7.5."""
    index = Path(directory) / "model_index.json"
    says = json.loads(index.read_text()) if index.exists() else {}
    return says.get("num_inference_steps", 20), says.get("guidance_scale", 7.5)


def prompt_ids(pack, prompt, negative="", cfg_scale=7.5):
    """The ids of the prompt under "", and for guidance those of the negative one under "uncond/".
    The begin token, which is the tokenizer's own, stands before each."""
    limit = pack.llm.config.max_position_embeddings
    ids = {}
    for prefix, text in {"": prompt, "uncond/": negative}.items():
        ids[prefix] = [pack.tokenizer.bos_token_id]
        ids[prefix] += pack.tokenizer(text, add_special_tokens=False).input_ids
        if len(ids[prefix]) > limit:
            raise ValueError(f"a prompt of {len(ids[prefix])} tokens, the LLM has {limit} positions")
    if cfg_scale == 1:
        del ids["uncond/"]
    return ids


# ---- noise ---------------------------------------------------------------------------------------


def draw_noise(pack, ids, seed=42, steps=20, eta=0.0, height=None, width=None, *, strength=None,
               masked=False):
    """All the noise of one picture, float32, under its names in a trace. Latents and the sampler's
    noise share a stream, as in diffusers; Langevin noise has its own from the same seed: the
    prompt's first, then the negative prompt's. With a strength there is a picture to encode."""
    factor = 2 ** (len(pack.vae.config.block_out_channels) - 1)
    height = height or pack.unet.config.sample_size * factor
    width = width or pack.unet.config.sample_size * factor
    if height % factor or width % factor:
        raise ValueError(f"{width}x{height}: both must be multiples of {factor}")
    shape = (1, pack.unet.config.in_channels, height // factor, width // factor)
    D, T = pack.llm.config.hidden_size, pack.llm.config.num_hidden_layers
    noise = {}

    sampler = torch.Generator("cpu").manual_seed(seed)
    if strength is not None:
        noise["vae/encoder/noise"] = torch.randn(shape, generator=sampler)[0]
    noise["latents/0"] = torch.randn(shape, generator=sampler)[0]
    if masked:
        torch.randn(shape, generator=sampler)  # diffusers encodes the masked picture too, unused
    for i, t in enumerate(timesteps_of(pack.scheduler, steps, strength)):
        if draws(pack.scheduler, t, eta):
            noise[f"sampler/noise.{i}"] = torch.randn(shape, generator=sampler)[0]

    langevin = torch.Generator("cpu").manual_seed(seed)
    for prefix, tokens in ids.items():
        N = len(tokens)
        if pack.settings["init"] == "normal":
            noise[f"{prefix}alg1/c.{T}"] = torch.randn(N, D, generator=langevin)
        if pack.settings["noise"]:
            for t in range(T, 0, -1):
                noise[f"{prefix}alg1/eps.{t}"] = torch.randn(N, D, generator=langevin)
    return noise


# ---- image to image, inpainting ------------------------------------------------------------------
#
# As in diffusers' StableDiffusionImg2ImgPipeline and StableDiffusionInpaintPipeline: the last part
# of the sampler's walk, from z_0 with noise on it. A mask is white (>= 128) where it is repainted;
# elsewhere the latents are z_0 with noise for the time reached, at the end z_0.


def evaluations(steps, strength):
    return steps if strength is None else min(int(steps * strength), steps)


def timesteps_of(scheduler, steps, strength):
    first = steps - evaluations(steps, strength)
    scheduler.set_timesteps(steps)
    if strength is not None and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def draws(scheduler, t, eta):
    """Whether the scheduler's step from t draws noise."""
    if isinstance(scheduler, diffusers.DDPMScheduler):
        return bool(t > 0)
    if isinstance(scheduler, diffusers.DDIMScheduler):
        return eta > 0
    return isinstance(scheduler, diffusers.EulerAncestralDiscreteScheduler)


def step(scheduler, eps, t, z, eta, drawn):
    """The scheduler's own step, with noise that was drawn before in place of its own draw."""
    if isinstance(scheduler, diffusers.DDIMScheduler):
        return scheduler.step(eps, t, z, eta=eta, variance_noise=drawn).prev_sample
    module = sys.modules[type(scheduler).__module__]
    with mock.patch.object(module, "randn_tensor", lambda *_, **__: drawn, create=True):
        return scheduler.step(eps, t, z).prev_sample


def picture(rgb, dtype):
    """bytes [H, W, 3] -> [3, H, W] in -1 .. 1."""
    return 2 * (rgb.permute(2, 0, 1).to(dtype) / 255) - 1


def latent_mask(mask, factor, dtype):
    """bytes [H, W] -> [H/factor, W/factor] of 0 and 1: the pixel at each block's top left."""
    return (mask[::factor, ::factor] >= 128).to(dtype)


def encode_picture(pack, image, noise, see=nobody):
    """z_0 [4, h, w]: a sample of the VAE's posterior."""
    with hooks.watch_modules(pack.vae.encoder, under("vae/encoder/", see)):
        posterior = pack.vae.encode(image[None]).latent_dist
    noise = see("vae/encoder/noise", noise)
    z_0 = pack.vae.config.scaling_factor * (posterior.mean[0] + posterior.std[0] * noise)
    return see("latents/image", z_0)


def opened(path, factor, width=None, height=None, mode="RGB"):
    """A picture file as bytes, resized to width x height; without these to multiples of factor."""
    with Image.open(path) as file:
        size = (width or file.width // factor * factor, height or file.height // factor * factor)
        resized = file.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized.convert(mode)))


# ---- the walk ------------------------------------------------------------------------------------


def encode(pack, ids, noise, see=nobody):
    """phi(c) and c side by side [1, N, E + D]: what the cross-attentions read."""
    adapter = pack.adapter
    c = algorithm1(pack.llm, ids, adapter.g, adapter.eta, pack.settings, noise, see)
    phi_c = see("adapter/phi_c", adapter.phi(c))
    return torch.cat([phi_c, c], dim=-1)[None]


def evaluate(pack, z, t, context, side="cond", see=nobody):
    """eps_theta(z_t, c) [4, h, w]."""
    with hooks.watch_unet(pack.unet, see, [side]):
        return pack.unet(z[None], t, context).sample[0]


@torch.no_grad()
def generate(pack, ids, noise, *, steps=20, cfg_scale=7.5, eta=0.0, init=None, mask=None,
             strength=None, see=nobody):
    """ids and noise -> the picture [3, H, W] before rounding. init and mask are bytes, [H, W, 3]
    and [H, W]; a strength goes with init."""
    context = {}
    for prefix, tokens in ids.items():
        tokens = see(prefix + "ids", torch.tensor(tokens)).tolist()
        mine = {k[len(prefix):]: v for k, v in noise.items() if k.startswith(prefix + "alg1/")}
        context[prefix] = encode(pack, tokens, mine, under(prefix, see))

    timesteps = timesteps_of(pack.scheduler, steps, strength)
    initial = see("latents/0", noise["latents/0"].to(pack.dtype))
    z = initial * pack.scheduler.init_noise_sigma
    if init is not None:
        drawn = noise["vae/encoder/noise"].to(pack.dtype)
        z_0 = encode_picture(pack, picture(init, pack.dtype), drawn, see)
        if mask is None or strength < 1:
            z = pack.scheduler.add_noise(z_0, initial, timesteps[:1])
    if mask is not None:
        repainted = latent_mask(mask, mask.shape[0] // z.shape[1], pack.dtype)
    for i, t in enumerate(timesteps):
        see_i = under(f"unet/{i}/", see)
        shown = pack.scheduler.scale_model_input(z, t)
        eps = evaluate(pack, shown, t, context[""], "cond", see_i)
        if cfg_scale != 1:
            eps_uncond = evaluate(pack, shown, t, context["uncond/"], "uncond", see_i)
            eps = eps_uncond + cfg_scale * (eps - eps_uncond)
        eps = see_i("eps", eps)
        sampler_noise = None
        if draws(pack.scheduler, t, eta):
            name = f"sampler/noise.{i}"
            sampler_noise = see(name, noise[name].to(pack.dtype))
        z = step(pack.scheduler, eps, t, z, eta, sampler_noise)
        if mask is not None:
            later = timesteps[i + 1:i + 2]
            kept = pack.scheduler.add_noise(z_0, initial, later) if len(later) else z_0
            z = (1 - repainted) * kept + repainted * z
        z = see(f"latents/{i + 1}", z)

    with hooks.watch_modules(pack.vae.decoder, under("vae/decoder/", see)):
        image = pack.vae.decode(z[None] / pack.vae.config.scaling_factor).sample[0]
    return see("image", image)


def to_pixels(image):
    """[3, H, W] in -1 .. 1 -> bytes [H, W, 3]."""
    return ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


# ---- command line --------------------------------------------------------------------------------


def setting(text):
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack")
    parser.add_argument("-p", "--prompt", required=True)
    parser.add_argument("-n", "--negative-prompt", default="")
    parser.add_argument("-o", "--output", default="output.png")
    parser.add_argument("-s", "--seed", type=int, default=42)
    parser.add_argument("--steps", type=int, help="(default: the pack's, else 20)")
    parser.add_argument("--cfg-scale", type=float, help="(default: the pack's, else 7.5)")
    parser.add_argument("--sampling-method", choices=SAMPLERS, help="(default: the pack's)")
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("-i", "--init-img", help="start from this picture")
    parser.add_argument("--strength", type=float,
                        help="how much of it is drawn anew, 0 .. 1 (0.8; with a mask 1)")
    parser.add_argument("--mask", help="repaint only where this picture is white")
    parser.add_argument("--vae-tiling", action="store_true", help="encode and decode in tiles")
    parser.add_argument("-W", "--width", type=int)
    parser.add_argument("-H", "--height", type=int)
    parser.add_argument("--adapter", help="another adapter directory than the pack's")
    parser.add_argument("--no-langevin-noise", action="store_true")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--dtype", choices=("float64", "float32", "bfloat16", "float16"),
                        default="float32")
    parser.add_argument("--trace", help="write every activation to this safetensors file")
    parser.add_argument("--force", help="let this trace's activations go on in place of the own ones")
    a = parser.parse_args()

    steps, cfg_scale = pack_defaults(a.pack)
    a.steps = steps if a.steps is None else a.steps
    a.cfg_scale = cfg_scale if a.cfg_scale is None else a.cfg_scale
    dtype = getattr(torch, a.dtype)
    overrides = dict(a.set) | ({"noise": False} if a.no_langevin_noise else {})
    pack = load_pack(a.pack, dtype, a.adapter, overrides, a.sampling_method)
    if a.vae_tiling:
        pack.vae.enable_tiling()
    ids = prompt_ids(pack, a.prompt, a.negative_prompt, a.cfg_scale)
    init = mask = strength = None
    if a.init_img:
        factor = 2 ** (len(pack.vae.config.block_out_channels) - 1)
        init = opened(a.init_img, factor, a.width, a.height)
        a.height, a.width = init.shape[:2]
        strength = a.strength if a.strength is not None else 1.0 if a.mask else 0.8
        if not 0 <= strength <= 1 or evaluations(a.steps, strength) == 0:
            parser.error(f"--strength {strength} of {a.steps} steps: no step, or not within 0 .. 1")
        if a.mask:
            mask = opened(a.mask, factor, a.width, a.height, mode="L")
    elif a.mask or a.strength is not None:
        parser.error("--mask and --strength want -i")
    noise = draw_noise(pack, ids, a.seed, a.steps, a.eta, a.height, a.width, strength=strength,
                       masked=mask is not None)
    force = hooks.Reference(a.force) if a.force else None
    trace = hooks.FileTrace(force) if a.trace else hooks.Trace(force, only="$^")
    with lifted() if dtype == torch.float64 else nullcontext():
        image = generate(pack, ids, noise, steps=a.steps, cfg_scale=a.cfg_scale, eta=a.eta,
                         init=init, mask=mask, strength=strength,
                         see=trace if a.trace or a.force else nobody)
    settings = {"program": "llmdiff_torch.py", "parameters": json.dumps(vars(a))}
    info = PngInfo()
    for key, value in settings.items():
        info.add_text(key, value)
    Image.fromarray(to_pixels(image).numpy()).save(a.output, pnginfo=info)
    if a.trace:
        trace.save(a.trace, settings)
    print(f"{a.output}: {image.shape[2]}x{image.shape[1]}, seed {a.seed}")


if __name__ == "__main__":
    main()

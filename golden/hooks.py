"""A trace of upstream models under llmdiff's names, in any float type; and forcing.

    with hooks.trace(pipe=pipe, llm=llm, to="mine.safetensors") as see:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        llm(ids)                                # ids, llm/x.{t}, llm/s_sentence.{t}, llm/s_word.{t}
        phi_c = see("adapter/phi_c", my_phi_c)  # what no upstream module computes
        pipe(prompt_embeds=..., ...)            # unet/{i}/..., latents/{i}, vae/decoder/..., image

`pipe` is a StableDiffusionPipeline, whole: with it go its CLIP text encoder (text/...), U-Net (a batch
of two is [uncond, cond] and is split), scheduler and VAE. Each can be given alone instead. The file
holds the tensors as they are (float16, bfloat16, float32, float64, ids int64), one after the other as
they were computed; a name that is computed twice keeps its place and holds the later one.

force="reference.safetensors": after a named tensor was computed and written, the reference's tensor
of that name goes on in its place, in the run's type. Every stage then starts from the reference's
input, and its error is its own.

Upstream computes the angle of the time embedding's sinusoid in float32, up to 5e-5 off, which the truth
does not (spec, section 7): here it is computed in float64 and rounded once. exact_time=False leaves
upstream's own, and `unet/{i}/time_embedding` is then no match.

This file needs torch, diffusers and safetensors, and no other file of this directory.
"""

import functools
import json
import math
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import torch
from diffusers.models import embeddings
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from safetensors import safe_open

# ---- what is shown a tensor: see(name, x) returns the tensor to go on with ------------------------


def nobody(name, x):
    """The observer of those who don't trace."""
    return x


def under(prefix, see):
    return see if see is nobody else lambda name, x: see(prefix + name, x)


class Trace(dict):
    """Keeps every tensor that it is shown, and gives back the reference's where there is one."""

    def __init__(self, force=None, only=None):
        super().__init__()
        self.force, self.only = force or {}, re.compile(only or "")

    def __call__(self, name, x):
        if self.only.search(name):
            self[name] = x.detach().clone()
        if name not in self.force:
            return x
        reference = self.force[name]
        if reference.shape != x.shape:
            raise ValueError(f"{name} is {tuple(x.shape)}, the reference's {tuple(reference.shape)}")
        return reference.to(x.device, x.dtype)


class FileTrace(Trace):
    """A trace that is on disk and not in memory; save() gives it its name."""

    def __init__(self, force=None, only=None):
        super().__init__(force, only)
        self.data = tempfile.TemporaryFile()

    def __setitem__(self, name, x):
        raw = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        super().__setitem__(name, (TYPES[x.dtype], list(x.shape), self.data.tell(), len(raw)))
        self.data.write(raw)

    def save(self, path, metadata=None):
        """safetensors, which says what is where before all data. Its own writer would sort them."""
        header, end = {}, 0
        if metadata:
            header["__metadata__"] = {k: str(v) for k, v in sorted(metadata.items())}
        for name, (dtype, shape, _, size) in self.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        unfinished = f"{path}.unfinished"
        with open(unfinished, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, _, begin, size in self.values():
                self.data.seek(begin)
                while size:
                    piece = self.data.read(min(size, 1 << 24))
                    file.write(piece)
                    size -= len(piece)
        os.replace(unfinished, path)


TYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
         torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}


def save(path, tensors, metadata=None):
    """A safetensors file of these, in this order."""
    trace = FileTrace()
    for name, x in tensors.items():
        trace[name] = x
    trace.save(path, metadata)


class Reference:
    """The tensors of a file, each read when it is wanted."""

    def __init__(self, path):
        self.file = safe_open(path, "pt")
        self.names = set(self.file.keys())
        # In a thread of its own, where no torch mode is on that reads one type as another (f64.py)
        self.reader = ThreadPoolExecutor(1)

    def __contains__(self, name):
        return name in self.names

    def __getitem__(self, name):
        return self.reader.submit(self.file.get_tensor, name).result()


# ---- hooks on upstream's modules -----------------------------------------------------------------

NAMED = (ResnetBlock2D, Downsample2D, Upsample2D, BasicTransformerBlock, FeedForward, Attention)


def named(model):
    """The modules that have a name in a trace, of a U-Net, a VAE's encoder or its decoder."""
    return [path for path, module in model.named_modules()
            if isinstance(module, NAMED) or path in ("conv_in", "mid_block", "conv_out")]


def each(see, names, batch):
    """see(name, element) for the elements of a batch; the batch itself if none is replaced."""
    if len(names) != len(batch):
        raise ValueError(f"{names[0]}: a batch of {len(batch)}, expected {len(names)}")
    given = [(x, see(name, x)) for name, x in zip(names, batch)]
    return batch if all(x is y for x, y in given) else torch.stack([y for _, y in given])


def on_output(module, show):
    """show(tensor) -> the tensor to go on with, of what a module returns."""

    def hook(module, args, output):
        x = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        y = show(x)
        if y is x:
            return None
        if isinstance(output, tuple):
            return (y, *output[1:])
        return y if output is x else type(output)(sample=y)

    return module.register_forward_hook(hook)


@contextmanager
def removed(handles):
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def watch_modules(model, see):
    """The modules of a VAE's encoder or decoder, batches of one."""
    with removed([] if see is nobody else [
            on_output(model.get_submodule(path), lambda x, path=path: each(see, [path], x))
            for path in named(model)]):
        yield


@contextmanager
def watch_unet(model, see, sides=None):
    """sample, t, time_embedding, {side}/<path> of every named module, {side}/eps; and what an
    attention processor with a `see` of its own shows (llmdiff_torch.Eq9). sides: the batch's, by
    default ("cond",) or ("uncond", "cond")."""
    if see is nobody:
        yield
        return

    def show(path, batch):
        of = sides or {1: ["cond"], 2: ["uncond", "cond"]}[len(batch)]
        return each(see, [f"{side}/{path}" for side in of], batch)

    def shared(name, batch):
        one = batch[0]
        given = see(name, one)
        return batch if given is one else given.expand_as(batch)

    def inputs(module, args, kwargs):
        sample, t = (*args, *(kwargs.pop(k) for k in ("sample", "timestep") if k in kwargs))[:2]
        number = torch.as_tensor(t).reshape(-1)[:1]
        number = number.to(torch.float64 if sample.dtype == torch.float64 else torch.float32)
        sample, given = shared("sample", sample), shared("t", number)
        return (sample, t if given is number else given, *args[2:]), kwargs

    handles = [model.register_forward_pre_hook(inputs, with_kwargs=True),
               on_output(model.time_embedding, functools.partial(shared, "time_embedding"))]
    for path in named(model):
        handles.append(on_output(model.get_submodule(path), functools.partial(show, path)))
    handles.append(on_output(model, functools.partial(show, "eps")))
    processors = [m.processor for m in model.modules() if hasattr(getattr(m, "processor", None), "see")]
    with removed(handles), ExitStack() as stack:
        for processor in processors:
            stack.enter_context(mock.patch.object(processor, "see", show))
        yield


@contextmanager
def watch_llm(model, see, word=True):
    """llm/x.{t}, and what each block's residual branch adds: S_sentence as the block computes it and,
    with `word`, S_word: the same block over the same rows, each of which sees itself alone."""
    blocks = model.model.layers
    T = len(blocks)

    def first(block, args, kwargs):
        args, kwargs = positional(args, kwargs)
        x = each(see, [f"llm/x.{T}"], args[0])
        return (x, *args[1:]), kwargs

    def scores(l, block, args, kwargs, output):
        (x_t, *_), kwargs = positional(args, kwargs)
        t, x = T - l, output[0] if isinstance(output, tuple) else output
        show = lambda name, x: each(see, [f"llm/{name}.{t}"], x)
        show("s_sentence", x - x_t)
        if word:
            N = x_t.shape[1]
            own_token = torch.full((N, N), float("-inf"), dtype=x_t.dtype, device=x_t.device)
            alone = {"attention_mask": own_token.fill_diagonal_(0)[None, None], "use_cache": False}
            alone |= {k: None for k in kwargs if k.startswith("past_key_value")}
            alone = block.forward(x_t, **{**kwargs, **alone})
            show("s_word", (alone[0] if isinstance(alone, tuple) else alone) - x_t)
        y = each(see, [f"llm/x.{t - 1}"], x)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    handles = [blocks[0].register_forward_pre_hook(first, with_kwargs=True)]
    for l, block in enumerate(blocks):
        hook = functools.partial(scores, l)
        handles.append(block.register_forward_hook(hook, with_kwargs=True))
    with removed(handles):
        yield


def positional(args, kwargs):
    """A block's arguments with its hidden states first."""
    if args:
        return args, kwargs
    return (kwargs["hidden_states"],), {k: v for k, v in kwargs.items() if k != "hidden_states"}


@contextmanager
def watch_text_encoder(model, see):
    """text/<module path> of a CLIPTextModel, as transformers 5 calls them. Where clip_skip leaves
    layers out, final_layer_norm runs twice, and the later one counts."""
    handles = []
    for path, module in model.named_modules():
        path = path.removeprefix("text_model.")
        if re.fullmatch(r"embeddings|encoder\.layers\.\d+(\.self_attn|\.mlp)?|final_layer_norm", path):
            handles.append(on_output(module, lambda x, path=path: each(see, ["text/" + path], x)))
    with removed(handles):
        yield


def sinusoid(timesteps, embedding_dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1,
             max_period=10000):
    """diffusers' get_timestep_embedding, in float64; the U-Net rounds it to its own type."""
    half = embedding_dim // 2
    exponent = -math.log(max_period) * torch.arange(half, dtype=torch.float64, device=timesteps.device)
    angle = scale * (timesteps.double()[:, None] * torch.exp(exponent / (half - downscale_freq_shift)))
    waves = [angle.cos(), angle.sin()] if flip_sin_to_cos else [angle.sin(), angle.cos()]
    return torch.nn.functional.pad(torch.cat(waves, -1), (0, embedding_dim % 2))


# ---- a whole pipeline ----------------------------------------------------------------------------


@contextmanager
def prompts(model, see):
    """ids of each call, and the prefix of its names: the first is the prompt's, the second the
    negative one's."""
    calls = iter(["", "uncond/"])
    now = {"prefix": ""}

    def hook(module, args, kwargs):
        now["prefix"] = next(calls)
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        each(see, [now["prefix"] + "ids"], ids)

    with removed([model.register_forward_pre_hook(hook, with_kwargs=True)]):
        yield lambda name, x: see(now["prefix"] + name, x)


def patched_step(scheduler, see, now):
    """unet/{i}/eps, sampler/noise.{i}, latents/{i + 1}; and counts the evaluations."""
    upstream, module = scheduler.step, sys.modules[type(scheduler).__module__]
    draw = getattr(module, "randn_tensor", None)

    def noise(*args, **kwargs):
        return each(see, [f"sampler/noise.{now['i']}"], draw(*args, **kwargs))

    @functools.wraps(upstream)  # the pipeline reads its signature: eta, generator
    def step(eps, t, z, return_dict=True, **kwargs):
        eps = each(see, [f"unet/{now['i']}/eps"], eps)
        with mock.patch.object(module, "randn_tensor", noise) if draw else nullcontext():
            output = upstream(eps, t, z, **kwargs)
        now["i"] += 1
        output.prev_sample = each(see, [f"latents/{now['i']}"], output.prev_sample)
        return output if return_dict else output.to_tuple()

    return mock.patch.object(scheduler, "step", step, create=True)


def patched_latents(pipe, see):
    """latents/0: the unit noise, before init_noise_sigma."""
    upstream, module = pipe.prepare_latents, sys.modules[type(pipe).__module__]
    draw = module.randn_tensor

    def prepare(*args, **kwargs):
        *args, latents = args if len(args) == 8 else (*args, kwargs.pop("latents", None))
        if latents is not None:
            latents = each(see, ["latents/0"], latents)
        with mock.patch.object(module, "randn_tensor",
                               lambda *a, **k: each(see, ["latents/0"], draw(*a, **k))):
            return upstream(*args, latents=latents, **kwargs)

    return mock.patch.object(pipe, "prepare_latents", prepare)


def patched_decode(vae, see):
    upstream = vae.decode

    def decode(*args, return_dict=True, **kwargs):
        output = upstream(*args, **kwargs)
        output.sample = each(see, ["image"], output.sample)
        return output if return_dict else output.to_tuple()

    return mock.patch.object(vae, "decode", decode)


@contextmanager
def trace(pipe=None, *, llm=None, unet=None, vae=None, text_encoder=None, scheduler=None, to=None,
          force=None, only=None, metadata=None, exact_time=True):
    """See the top of this file. force: a file, or a dict of tensors; only: a regular expression, the
    names to write. What it gives is `see`, for tensors that no upstream module computes; without `to`
    a dict of all tensors, too."""
    of_pipe = lambda given, name: getattr(pipe, name, None) if given is None else given
    unet, vae = of_pipe(unet, "unet"), of_pipe(vae, "vae")
    text_encoder, scheduler = of_pipe(text_encoder, "text_encoder"), of_pipe(scheduler, "scheduler")
    force = Reference(force) if isinstance(force, (str, os.PathLike)) else force
    see = FileTrace(force, only) if to else Trace(force, only)
    now = {"i": 0}
    with ExitStack() as stack:
        add = stack.enter_context
        if exact_time:
            add(mock.patch.object(embeddings, "get_timestep_embedding", sinusoid))
        if llm is not None:
            add(watch_llm(llm, add(prompts(llm.model, see))))
        if text_encoder is not None:
            add(watch_text_encoder(text_encoder, add(prompts(text_encoder, see))))
        if unet is not None:
            add(watch_unet(unet, lambda name, x: see(f"unet/{now['i']}/{name}", x)))
        if scheduler is not None:
            add(patched_step(scheduler, see, now))
        if pipe is not None:
            add(patched_latents(pipe, see))
        if vae is not None:
            add(watch_modules(vae.encoder, under("vae/encoder/", see)))
            add(watch_modules(vae.decoder, under("vae/decoder/", see)))
            add(patched_decode(vae, see))
        yield see
    if to:
        see.save(to, {"program": "hooks.py"} | (metadata or {}))

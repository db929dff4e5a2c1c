"""A small upstream model with random parameters, stored as a Hugging Face directory.

    randomise(model, "unet", "sd")              # every parameter random and away from its default
    state = store(model, path, torch.float16)   # config.json + diffusion_pytorch_model.safetensors
    double = widen(model, state, torch.float64) # the stored values, exactly, in another dtype
    model = reload(path, state)                 # what upstream's from_pretrained makes of it
    with recording(double, ["conv_in", ...]) as seen: ...

Parameters as spec, section 7 wants them: matrices and kernels of std 1/sqrt(fan_in), norm weights
in 0.5 .. 1.5, biases nonzero. They are rounded to the stored dtype first, so that the numbers on
disk are the model's numbers in every precision.
"""

import copy
import json
from contextlib import contextmanager

import torch
from diffusers.utils import logging

from common import generator

logging.set_verbosity_error()

NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)


@torch.no_grad()
def randomise(model, *key):
    for path, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            gen = generator(*key, path, name)
            if isinstance(module, NORMS):
                x = torch.rand(p.shape, generator=gen, dtype=torch.float64)
                x = 0.5 + x if name == "weight" else 0.4 * (x - 0.5)
            else:
                x = torch.randn(p.shape, generator=gen, dtype=torch.float64)
                x *= 0.2 if name == "bias" else p[0].numel() ** -0.5
            p.copy_(x)
    return model.eval().requires_grad_(False)


def store(model, path, dtype):
    """The state dict as stored, that is rounded to dtype."""
    stored = copy.deepcopy(model).to(dtype)
    stored.save_pretrained(path, safe_serialization=True)
    state = stored.state_dict()
    assert all(torch.isfinite(x).all() and (x != 0).all() for x in state.values())
    return state


def reload(path, state):
    """What upstream makes of the directory; its parameters are those that were stored."""
    import diffusers

    made = json.loads((path / "config.json").read_text())["_class_name"]
    model = getattr(diffusers, made).from_pretrained(path, low_cpu_mem_usage=False)
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[k], v.to(loaded[k].dtype)) for k, v in state.items())
    return model


def widen(model, state, dtype):
    wide = copy.deepcopy(model).to(dtype)
    wide.load_state_dict({k: v.to(dtype) for k, v in state.items()})
    return wide


def shorten_config(path, keys):
    """Keeps only those keys: a config.json as an older diffusers wrote it; the rest are defaults."""
    file = path / "config.json"
    config = json.loads(file.read_text())
    config = {k: v for k, v in config.items() if k in keys or k.startswith("_")}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@contextmanager
def recording(model, names):
    """Fills a dict with the outputs of the named modules, in execution order, without the batch."""
    seen, handles = {}, []

    def hook(name):
        def record(_module, _inputs, output):
            x = output[0] if isinstance(output, tuple) else output
            assert name not in seen and x.shape[0] == 1
            seen[name] = x.detach()[0].clone()

        return record

    for name, module in model.named_modules():
        if name in names:
            handles.append(module.register_forward_hook(hook(name)))
    assert len(handles) == len(names)
    try:
        yield seen
    finally:
        for h in handles:
            h.remove()

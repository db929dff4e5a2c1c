"""float64 all the way through upstream's own code.

Upstream keeps float32 islands inside a float64 model: `.float()` in the rotary tables,
`softmax(dtype=torch.float32)`, the sinusoidal time embedding, the schedulers' betas, and more. Here
upstream's code runs unchanged while the word float32 means float64:

    model = lift(PhiForCausalLM.from_pretrained(directory))     # widened, its tables recomputed
    with lifted():
        scheduler = DDIMScheduler.from_pretrained(directory)    # its betas in float64
        y = model(x)                                            # any float32 tensor raises

precision(dtype) is what an exporter's run(seed, dtype) stands in: lifted() for the truth; for the
float32 yardstick plain upstream, but for the time embedding, which is exact and rounded once
(spec, section 7). Random numbers are drawn outside: a float32 draw is another stream in float64.

`python golden/f64.py` measures how far upstream's islands are from the truth (golden/README.md).
"""

from contextlib import ExitStack, contextmanager
from unittest import mock

import diffusers.models.embeddings as embeddings
import numpy
import torch
from diffusers.schedulers import (
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

NARROW = (torch.float32, torch.float16, torch.bfloat16)


class Float32MeansFloat64(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        def widen(value):
            return torch.float64 if value is torch.float32 else value

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = tuple(widen(a) for a in args)
        kwargs = {k: widen(v) for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)


class NoNarrowFloat(TorchDispatchMode):
    """Raises where any operator, however deep, gives a float tensor narrower than float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.dtype in NARROW:
                raise AssertionError(f"{func} gave {x.dtype} {tuple(x.shape)} in a float64 run")
        return result


class WideNumpy:
    """numpy for the schedulers that keep tables in it, which a torch mode does not see."""

    float32 = numpy.float64

    def __getattr__(self, name):
        return getattr(numpy, name)


NUMPY_ISLANDS = (
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
)


@contextmanager
def lifted():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with ExitStack() as stack:
            for module in NUMPY_ISLANDS:
                stack.enter_context(mock.patch.object(module, "np", WideNumpy()))
            stack.enter_context(Float32MeansFloat64())
            stack.enter_context(NoNarrowFloat())
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def exact_time_embedding():
    upstream = embeddings.get_timestep_embedding

    def rounded_once(timesteps, *args, **kwargs):
        with lifted():
            exact = upstream(timesteps.to(torch.float64), *args, **kwargs)
        return exact.to(torch.float32)

    with mock.patch.object(embeddings, "get_timestep_embedding", rounded_once):
        yield


def precision(dtype):
    return lifted() if dtype == torch.float64 else exact_time_embedding()


def lift(model):
    """Widens a model exactly, and recomputes the tables that it made in float32."""
    model.double()
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            frequencies = ROPE_INIT_FUNCTIONS.get(module.rope_type)  # "default" is not among them
            with lifted():
                module.inv_freq, scaling = (frequencies or module.compute_default_rope_parameters)(
                    module.config)
            module.original_inv_freq = module.inv_freq.clone()
            assert scaling == 1.0
    return model


def islands():
    """name, and max|upstream in a float64 model - truth| / max|truth|."""
    from diffusers import DDIMScheduler
    from transformers import LlamaConfig, PhiConfig
    from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
    from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

    from common import DATA, generator, relative_error
    from llmdiff_torch import load_llm, scores

    def compare(name, run):
        with torch.no_grad():
            upstream = run()
            with lifted():
                truth = run()
        print(f"| {name} | {relative_error(upstream, truth):.1e} |")

    phi15 = PhiConfig()
    positions = torch.arange(2048)[None]
    x = torch.zeros(1, dtype=torch.float64)
    compare("phi rotary cosines, 2048 positions (float32 `inv_freq` and angle)",
            lambda: PhiRotaryEmbedding(phi15)(x, positions)[0])

    vicuna = LlamaConfig(max_position_embeddings=4096)
    four_times = LlamaConfig(max_position_embeddings=4096, rope_parameters={
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    positions = torch.arange(4096)[None]
    for name, config in (("llama", vicuna), ("llama, linear scaling 4,", four_times)):
        compare(f"{name} rotary cosines, 4096 positions",
                lambda: LlamaRotaryEmbedding(config)(x, positions)[0])

    rows = torch.randn(8, 4096, generator=generator("islands", "rms"), dtype=torch.float64)
    compare("LlamaRMSNorm of 8 rows of 4096", lambda: LlamaRMSNorm(4096).double()(rows))

    for name, layers in (("llama_grouped", 2), ("mistral_window", 2)):
        unlifted = load_llm(DATA / name, torch.float32).double()
        model, ids = load_llm(DATA / name, torch.float64), list(range(17))
        with torch.no_grad():
            upstream = scores(unlifted, ids)[0][layers]
            with lifted():
                truth = scores(model, ids)[0][layers]
        print(f"| {name}: x^0 of 17 tokens | {relative_error(upstream, truth):.1e} |")

    scores = torch.randn(64, 64, generator=generator("islands"), dtype=torch.float64) * 3
    compare("eager softmax of a 64 x 64 score matrix",
            lambda: torch.nn.functional.softmax(scores, -1, dtype=torch.float32).double())

    for t in (1, 501, 999):
        compare(f"sinusoidal time embedding, 320 wide, t = {t}",
                lambda: embeddings.get_timestep_embedding(torch.tensor([t]), 320, True, 0))

    schedule = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                    set_alpha_to_one=False, steps_offset=1, clip_sample=False)
    compare("`betas`, largest", lambda: DDIMScheduler(**schedule).betas)
    compare("`alphas_cumprod`, largest", lambda: DDIMScheduler(**schedule).alphas_cumprod)
    compare("`alphas_cumprod`, at t = 999", lambda: DDIMScheduler(**schedule).alphas_cumprod[999:])

    def ddim():
        scheduler = DDIMScheduler(**schedule)
        scheduler.set_timesteps(20)
        z, eps = (torch.randn(4, 8, 8, generator=generator(k), dtype=torch.float64) for k in "ze")
        return scheduler.step(eps, 951, z).prev_sample

    compare("one DDIM step, 20 steps, t = 951", ddim)


if __name__ == "__main__":
    islands()

"""How a golden is made: the same function in float64 (the truth) and in torch float32 (the yardstick).

    g = Golden("ops_linear")
    g.case("small/", run)            # run(seed, dtype) -> (inputs, outputs), dicts of tensors
    g.save()                         # golden/data/ops_linear.safetensors

Stored are the inputs and the float64 outputs of seed 0, and for every output, under
"yardstick:<name>" in the metadata, torch float32's error: the largest over the seeds of
max|float32 - truth| / max|truth|; for a single number the root mean square over the seeds
(spec, section 7). Inputs must be the same values in both precisions: draw them with draw(), which
rounds to float32 first.
"""

import json
import math
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
# The spec asks for at least 8. The largest of 8 is a poor estimate where one input in twenty is
# ill-conditioned (a near tie in a softmax), so more are drawn, for every case alike.
SEEDS = 32

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def generator(*key):
    """A generator that depends on the key alone, so that adding a case moves no other."""
    import hashlib

    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw(gen, *shape, std=1.0, mean=0.0, dtype=torch.float64):
    """Normal numbers that a float32 holds exactly, in the dtype asked for."""
    x = torch.randn(*shape, generator=gen, dtype=torch.float64) * std + mean
    return x.to(torch.float32).to(dtype)


class Golden:
    def __init__(self, name):
        self.name = name
        self.tensors = {}
        self.metadata = {"torch": torch.__version__}

    def put(self, name, tensor):
        """An input, stored as it is (float64 inputs that float32 holds exactly become float32)."""
        x = tensor.detach().contiguous()
        if x.dtype == torch.float64 and torch.equal(x.float().double(), x):
            x = x.float()
        assert name not in self.tensors, name
        self.tensors[name] = x

    def truth(self, name, tensor, yardstick):
        assert tensor.dtype == torch.float64, (name, tensor.dtype)
        assert torch.isfinite(tensor).all(), name
        assert name not in self.tensors, name
        self.tensors[name] = tensor.detach().contiguous()
        self.metadata["yardstick:" + name] = repr(float(yardstick))

    def case(self, prefix, run, seeds=SEEDS):
        errors = {}
        for seed in range(seeds):
            inputs, outputs = run(seed, torch.float64)
            _, single = run(seed, torch.float32)
            assert outputs.keys() == single.keys()
            for name, y in outputs.items():
                assert y.dtype == torch.float64, (name, y.dtype)
                errors.setdefault(name, []).append(relative_error(single[name], y))
            if seed == 0:
                stored_inputs, stored_outputs = inputs, outputs
        for name, x in stored_inputs.items():
            self.put(prefix + name, x)
        for name, y in stored_outputs.items():
            self.truth(prefix + name, y, yardstick(errors[name], y.numel()))

    def inputs_in_traces(self):
        """Inputs that a trace shows again (ids, noise) are exact there: yardstick 0."""
        for name in self.tensors:
            self.metadata.setdefault("yardstick:" + name, "0.0")

    def save(self):
        DATA.mkdir(exist_ok=True)
        path = DATA / (self.name + ".safetensors")
        arrays = {k: v.contiguous() for k, v in self.tensors.items()}
        save_file(arrays, path, metadata={k: str(v) for k, v in self.metadata.items()})
        sort_header(path)
        print(f"{path.relative_to(HERE)}: {len(arrays)} tensors, {path.stat().st_size} bytes")


def sort_header(path):
    """safetensors writes the metadata in a random order; the same golden should be the same bytes."""
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[size:])


def yardstick(errors, numbers):
    """Of the errors over the seeds: the largest; of single numbers the root mean square."""
    if numbers == 1:
        return math.sqrt(sum(e * e for e in errors) / len(errors))
    return max(errors)


def relative_error(got, truth):
    largest = truth.abs().max().item() if truth.numel() else 0.0
    worst = (got.double() - truth).abs().max().item() if truth.numel() else 0.0
    return worst / largest if largest > 0 else worst

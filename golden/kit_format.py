"""golden/kit as files: manifest.json, inputs/<group>.safetensors, expected/<group>.safetensors.

    kit = Kit(directory)
    group = kit.group("operators", "operators")
    group.case("gelu/small", run, op="gelu", upstream="torch.nn.functional.gelu", spec="6")
    walk = kit.walk("picture", "picture", run, parameters={...}, pack="micro")
    kit.save()
    kit.save_port(directory, torch.bfloat16)

run(seed, dtype) -> (inputs, outputs) is a case, as in common.py; run(seed, dtype, force) a walk. What is
stored is seed 0: the inputs, and the outputs in float64. The yardstick of each float type is upstream's
own error in it, by common.py's rules. Walks have two: free, and forced, where each named activation is
replaced by the truth's before the next one reads it.
"""

import functools
import json
import shutil

import torch

import hooks
from common import SEEDS, relative_error, yardstick

TYPES = (torch.float32, torch.bfloat16, torch.float16)
PORT_TYPES = (torch.float64, *TYPES)


class Kit:
    def __init__(self, directory, **about):
        self.directory = directory
        self.manifest = {"format": "llmdiff-kit", "version": 1} | about | {"groups": []}
        self.groups = []

    def group(self, name, kind, types=TYPES, **fields):
        group = Group(name, kind, types, fields)
        self.groups.append(group)
        return group

    def walk(self, name, kind, run, kept=lambda name: True, zeros=(), **fields):
        group = self.group(name, kind, **fields)
        group.zeros = zeros
        group.walk(run, kept)
        return group

    def save(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        for part in ("inputs", "expected"):
            (self.directory / part).mkdir(parents=True)
        for group in self.groups:
            self.manifest["groups"].append(group.entry())
            for part in ("inputs", "expected"):
                path = self.directory / f"{part}/{group.name}.safetensors"
                hooks.save(path, getattr(group, part), {"kit": "llmdiff-kit 1", "group": group.name})
        (self.directory / "manifest.json").write_text(pretty(self.manifest) + "\n")

    def save_port(self, directory, dtype, groups=None):
        """What upstream itself computes in that type, as a port's directory holds it."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        about = {"program": "golden/make_kit.py", "precision": str(dtype)[6:]}
        for group in self.groups:
            if groups is None or group.name in groups:
                for way, outputs in group.ports[dtype].items():
                    hooks.save(directory / f"{group.name}{way}.safetensors", outputs, about)


class Group:
    def __init__(self, name, kind, types, fields):
        self.name, self.kind, self.fields = name, kind, fields
        self.types = types  # those with a yardstick
        self.inputs, self.expected, self.cases = {}, {}, []
        self.outputs = None  # a walk's
        # What upstream computes: of a walk under ".free" and ".forced", else under ""
        self.ports = {dtype: {} for dtype in PORT_TYPES}
        self.zeros = ()  # which truths are nothing but zeros, and should be

    def case(self, name, run, **fields):
        inputs, truth, errors, computed = judged(run, self.types)
        for key, x in inputs.items():
            self.put(f"{name}/{key}", x)
        for dtype, tensors in {torch.float64: truth, **computed}.items():
            port = self.ports[dtype].setdefault("", {})
            port |= {f"{name}/{key}": y for key, y in tensors.items()}
        outputs = []
        for key, y in truth.items():
            outputs.append(self.expect(f"{name}/{key}", key, y, errors[key]))
        self.cases.append({"name": name} | fields | {"inputs": list(inputs), "outputs": outputs})

    def walk(self, run, kept):
        def free(seed, dtype, force=None):
            inputs, trace = run(seed, dtype, force)
            return inputs, {k: v for k, v in trace.items() if kept(k)}

        truths = functools.cache(lambda seed: free(seed, torch.float64))

        def forced(seed, dtype):
            if dtype == torch.float64:
                return truths(seed)
            return free(seed, dtype, force=truths(seed)[1])

        inputs, truth, errors, computed = judged(
            lambda seed, dtype: truths(seed) if dtype == torch.float64 else free(seed, dtype))
        _, _, forced_errors, forced_computed = judged(forced)
        for dtype in TYPES:
            self.ports[dtype] = {".free": computed[dtype], ".forced": forced_computed[dtype]}
        _, from_itself = free(0, torch.float64, force=truth)
        self.ports[torch.float64] = {".free": truth, ".forced": from_itself}
        for key, x in inputs.items():
            self.put(key, x)
        self.outputs = [
            self.expect(key, key, y, {"free": errors[key], "forced": forced_errors[key]})
            for key, y in truth.items()]

    def put(self, name, x):
        assert name not in self.inputs, name
        x = x.detach().contiguous()
        if x.dtype == torch.float64 and torch.equal(x.float().double(), x):
            x = x.float()
        self.inputs[name] = x

    def expect(self, full, name, y, yardsticks):
        assert full not in self.expected, full
        if y.is_floating_point():
            assert y.dtype == torch.float64 and torch.isfinite(y).all(), full
            assert y.abs().max() > 0 or full in self.zeros, f"{full}: nothing but zeros"
        else:
            y, yardsticks = y.to(torch.int64), None
        self.expected[full] = y.detach().contiguous()
        entry = {"name": name, "shape": list(y.shape)}
        return entry | ({"yardstick": yardsticks} if yardsticks else {"dtype": "I64"})

    def entry(self):
        entry = {"name": self.name, "kind": self.kind} | self.fields
        entry |= {part: f"{part}/{self.name}.safetensors" for part in ("inputs", "expected")}
        if self.outputs is None:
            return entry | {"cases": self.cases}
        return entry | {"inputs_names": list(self.inputs), "outputs": self.outputs}


def judged(run, types=TYPES):
    """Seed 0's inputs and float64 outputs, of each output {"float32": yardstick, ...}, and what upstream
    computes for seed 0 in each type."""
    errors, computed = {}, {}
    for seed in range(SEEDS):
        inputs, truth = run(seed, torch.float64)
        if seed == 0:
            stored = inputs, truth
        for dtype in types:
            _, got = run(seed, dtype)
            computed.setdefault(dtype, got)
            assert got.keys() == truth.keys(), got.keys() ^ truth.keys()
            for name, y in truth.items():
                if y.is_floating_point():
                    assert torch.isfinite(got[name]).all(), (name, dtype, "not finite")
                    error = relative_error(got[name], y)
                    errors.setdefault(name, {}).setdefault(dtype, []).append(error)
    inputs, truth = stored
    yardsticks = {
        name: {str(dtype)[6:]: float(f"{yardstick(e, y.numel()):.4g}")
               for dtype, e in errors.get(name, {}).items()} for name, y in truth.items()}
    return inputs, truth, yardsticks, computed


def pretty(value, indent=""):
    """JSON; what fits on a line stands on one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= 110 or not isinstance(value, (dict, list)):
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(k)}: {pretty(v, deeper)}" for k, v in value.items()]
    else:
        items = [pretty(v, deeper) for v in value]
    begin, end = "{}" if isinstance(value, dict) else "[]"
    return f"{begin}\n" + ",\n".join(deeper + item for item in items) + f"\n{indent}{end}"

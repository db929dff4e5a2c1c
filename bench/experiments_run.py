"""What bench/experiments.py has done: commands, their results in files, nothing done twice."""

import hashlib
import json
import os
import random
import shlex
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Missing(Exception):
    """A directory that is not in this tree."""


class Failed(Exception):
    """A program's exit code, and its errors where they haven't been seen yet."""


def digest(paths):
    """SHA-256 over the files' names and bytes."""
    sha = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            sha.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            sha.update(file.read_bytes())
    return sha.hexdigest()


def tensors(path):
    """A safetensors file's header and data."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def numbers(path, names):
    """{name: list of numbers} of those tensors of which `names` says yes."""
    code = {"F64": "d", "F32": "f", "F16": "e"}
    header, data = tensors(path)
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and names(name):
            begin, end = entry["data_offsets"]
            letter = code[entry["dtype"]]
            found[name] = list(struct.unpack(f"<{(end - begin) // struct.calcsize(letter)}{letter}", data[begin:end]))
    return found


def merge(base, over, to):
    """The tensors of `base`, those that `over` has taken from there."""
    (base_header, base_data), (over_header, over_data) = tensors(base), tensors(over)
    base_header.pop("__metadata__", None)
    over_header.pop("__metadata__", None)
    unknown = sorted(set(over_header) - set(base_header))
    if unknown:
        raise Missing(f"{over}: {unknown[0]} is not in {base}")
    header, parts, at = {}, [], 0
    for name in sorted(base_header):
        entry, data = (over_header[name], over_data) if name in over_header else (base_header[name], base_data)
        begin, end = entry["data_offsets"]
        header[name] = {"dtype": entry["dtype"], "shape": entry["shape"], "data_offsets": [at, at + end - begin]}
        parts.append(data[begin:end])
        at += end - begin
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    to.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def chosen(settings):
    """As --set takes them: {"noise": True, "init": "zeros"} -> noise=true, init=zeros"""
    return [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]


class Runner:
    """work: where results go. plan: bench/experiments.py."""

    def __init__(self, work, plan, dry=False, quick=False, jobs=1):
        self.work, self.plan, self.dry, self.root = Path(work), plan, dry, plan.ROOT
        self.pack, self.quick = self.root / plan.PACK, quick
        self.steps = 4 if quick else plan.STEPS
        self.llmdiff = [str(self.root / "llmdiff")]
        self.digests, self.planned, self.jobs = {}, set(), jobs
        if not dry:
            self.work.mkdir(parents=True, exist_ok=True)

    # ---- results in files ----

    def result(self, name):
        """What is known by that name, or None."""
        file = self.work / "results" / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None

    def key(self, command, inputs):
        for path in inputs:
            if not path.exists():
                raise Missing(f"{path} is not there")
            if path not in self.digests:
                self.digests[path] = digest([path])
        told = [str(c).replace(str(self.root), ".") for c in command]
        return hashlib.sha256(json.dumps([told, [self.digests[p] for p in inputs]]).encode()).hexdigest()

    def do(self, name, command, inputs, work):
        """`work(command)` and its result kept under the name; or what is kept of the same command on the same files."""
        key = self.key(command, inputs)
        kept = self.result(name)
        if kept and kept["key"] == key:
            return kept["result"]
        if self.dry:
            if name not in self.planned:
                sys.stdout.write(shlex.join(map(str, command)) + "\n")
            self.planned.add(name)
            return None
        sys.stdout.write(f"{name}: {shlex.join(map(str, command))}\n")
        sys.stdout.flush()
        begin = time.time()
        kept = {"key": key, "command": [str(c) for c in command], "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "result": work(command), "seconds": round(time.time() - begin, 1)}
        file = self.work / "results" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(kept))
        os.replace(part, file)
        return kept["result"]

    def run(self, command):
        """Its progress and errors are seen; what it reports goes into files."""
        quiet = None if self.jobs == 1 else subprocess.PIPE  # several bars on one line are none
        done = subprocess.run([str(c) for c in command], cwd=self.root, stdout=subprocess.DEVNULL, stderr=quiet,
                              text=True, env=self.threads())
        if done.returncode:
            raise Failed(done.returncode, done.stderr)

    def threads(self):
        """Each of several programs at once gets its share of the cores; results don't depend on it."""
        if self.jobs == 1:
            return None
        return {**os.environ, "OMP_NUM_THREADS": str(max(1, os.cpu_count() // self.jobs))}

    def together(self, tasks):
        """Calls them all, self.jobs at a time; after an error none begins."""
        errors = []

        def attempt(task):
            try:
                if not errors:
                    task()
            except BaseException as error:
                errors.append(error)

        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(attempt, tasks))
        if errors:
            raise errors[0]

    # ---- training ----

    def data(self):
        """The directory with the pairs' tar."""
        tar = self.work / "pairs" / "pairs.tar"
        if not tar.exists() and not self.dry:
            tar.parent.mkdir(parents=True, exist_ok=True)
            count = 64 if self.quick else self.plan.PAIRS
            self.run([sys.executable, self.root / "golden/world/make_pairs.py", tar, "--count", count])
        return tar.parent

    def adapter(self, name, llm=None):
        """The directory of what that training gave."""
        out = self.work / "train" / name
        command = [*self.llmdiff, "train", "-m", self.pack, *(["--llm", self.root / llm] if llm else []),
                   "--train-data-dir", self.data(), "--output-dir", out, "--cache-dir", self.work / "cache",
                   "--max-train-steps", self.steps, "--checkpoints-total-limit", 1, *self.plan.TRAINING,
                   "--seed", self.plan.TRAINING_SEED.get(name, 42)]
        for setting in (*chosen(self.plan.SHIPPED), *self.plan.TRAININGS[name]):
            command += ["--set", setting]
        inputs = [self.root / llm if llm else self.pack / "llm", self.pack / "unet", self.pack / "vae",
                  self.pack / "scheduler"]
        self.do(f"train-{name}", command, inputs, lambda c: self.train(c, out, self.key(command, inputs)))
        return out

    def train(self, command, out, key):
        """Anew, or from the last checkpoint of the same command."""
        mark = out.with_suffix(".key")
        if not mark.exists() or mark.read_text() != key:
            shutil.rmtree(out, ignore_errors=True)
            out.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(key)
        if any(out.glob("checkpoint-*")):
            command = [*command, "--resume-from-checkpoint", "latest"]
        self.run(command)
        lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        last = [line["loss"] for line in steps[-max(1, len(steps) // 10):]]
        return {"steps": self.steps, "loss": sum(last) / len(last), "seconds": steps[-1]["seconds"]}

    # ---- judging ----

    def models(self, row):
        """Flags that say what draws, and the files it depends on."""
        if row.baseline == "control":
            control = self.root / self.plan.MORE / "control"
            unet = self.control_unet(control / "unet_attn2.safetensors")
            return (["--conditioner", "clip", "--unet", unet, "--text-encoder", control / "text_encoder"],
                    [control, self.pack / "unet", self.pack / "tokenizer"])
        if row.baseline:
            return ["--conditioner", "clip"], [self.pack / p for p in ("unet", "text_encoder", "tokenizer")]
        flags, inputs = [], [self.pack / "unet", self.pack / "llm"]
        if row.llm:
            flags, inputs[1] = ["--llm", self.root / row.llm], self.root / row.llm
        adapter = self.pack / "adapter"
        if row.train:
            adapter = self.adapter(row.train, row.llm)
        elif row.adapter:
            adapter = self.root / row.adapter
        if row.train or row.adapter:
            flags += ["--adapter", adapter]
        for setting in row.settings:
            flags += ["--set", setting]
        return flags, [*inputs, *(p for p in (adapter / "adapter.safetensors", adapter / "config.json")
                                  if p.exists() or not row.train or not self.dry)]

    def control_unet(self, over):
        to = self.work / "control" / "unet"
        if not over.exists():
            raise Missing(f"{over} is not there")
        if not self.dry:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.pack / "unet" / "config.json", to)
            merge(self.pack / "unet" / "diffusion_pytorch_model.safetensors", over,
                  to / "diffusion_pytorch_model.safetensors")
        return to

    def result_name(self, row, few):
        return f"judge-{row.name}" + (f"-{few}" if few else "")

    def judge(self, row, few=0):
        flags, inputs = self.models(row)
        suite = self.root / self.plan.SUITE
        json_file = self.work / "eval" / f"{self.result_name(row, few)}.json"
        if not self.dry:
            json_file.parent.mkdir(parents=True, exist_ok=True)
        few = 1 if self.quick else few
        limit = ["--limit", few] if few else []
        command = [*self.llmdiff, "eval", "-m", self.pack, "--suite", suite, "--seed", self.plan.SEED, *limit, *flags,
                   "--json", json_file]
        inputs = [*inputs, suite, self.pack / "vae", self.pack / "scheduler", self.pack / "model_index.json"]

        def work(command):
            self.run(command)
            return json.loads(json_file.read_text())

        return self.do(self.result_name(row, few), command, inputs, work)

    def norm(self, row):
        """The root mean square of c's elements, over some prompts."""
        flags, inputs = self.models(row)
        file = self.work / "eval" / f"{row.name}.safetensors"
        lines = (self.root / self.plan.SUITE).read_text().splitlines()
        prompts = [json.loads(line)["prompt"] for line in random.Random(0).sample(lines, min(8, len(lines)))]
        command = [*self.llmdiff, "encode", "-m", self.pack, *flags, "-o", file]

        def work(command):
            squares = []
            for prompt in prompts:
                self.run([*command, "-p", prompt])
                squares += [x * x for x in numbers(file, lambda name: name == "alg1/c.0")["alg1/c.0"]]
            return (sum(squares) / len(squares)) ** 0.5

        return self.do(f"norm-{row.name}", command, [*inputs, self.root / self.plan.SUITE], work)

    def cost(self):
        prompts = ["a red circle", "a small red circle to the left of a large blue square",
                   "The picture shows two things. One of them is a square, the other one is a circle. The square is "
                   "above the circle. The square is orange and large. The circle is green and small."]
        for threads in (1, os.cpu_count()):
            command = [self.root / "build/f32/bench_cost", self.pack, "--threads", threads, *prompts]
            self.do(f"cost-{threads}", command, [self.pack],
                    lambda c: json.loads(subprocess.run([str(x) for x in c], check=True, capture_output=True,
                                                        text=True, env={**os.environ, "OMP_WAIT_POLICY": "passive"}).stdout))

    def llm(self, row):
        """Family, T, D and parameters, as `llmdiff info` prints them."""
        path = self.root / row.llm if row.llm else self.pack / "llm"
        text = subprocess.run([*self.llmdiff, "info", path], capture_output=True, text=True).stdout
        said = {line[2:28].strip(): line[29:].strip() for line in text.splitlines() if line.startswith("  ")}
        return [said.get(k, "?") for k in ("family", "T (blocks)", "D (width)", "size")]

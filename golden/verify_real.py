"""llmdiff and upstream side by side on real checkpoints: make verify-real LLM=DIR SD=DIR

    python golden/verify_real.py --llm phi-1_5 --sd stable-diffusion-v1-5 -W 256 -H 256 --steps 2

Both get the same files, ids and noise. Upstream (transformers and diffusers, by llmdiff_torch.py and
hooks.py) is run in float64, which is the truth, and in float32, whose error is the yardstick;
./llmdiff (float32) and ./llmdiff-f64 are judged by `llmdiff compare` as the kit's walks are: float32
within 2 yardsticks + 4 ulp, float64 within 1e-8. Each is run free, and forced from the truth. The
yardstick is the worst over --seeds (of the noise), both prompts and all evaluations of a module; one
seed is a poor estimate of how errors may add up in a free run of a small model.

An LLM that doesn't fit in memory is run by upstream's classes one block at a time. Where even the U-Net
doesn't fit in float64, upstream's float32 is the reference, and the tolerance compare's default.

Without --adapter a random one stands in, seeded, none of its numbers at their defaults, with
normalize "rms" so that an LLM's large hidden states don't drive the attentions into their corners.
"""

import argparse
import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import hooks
import llmdiff_torch
from common import HERE, generator
from f64 import lift, precision
from llmdiff_torch import SAMPLERS, draw_noise, generate, load_pack, prompt_ids
from pack import random_adapter
from pack_hash import files_of

ROOT = HERE.parent
WAYS = ("free", "forced")
GIB = 1 << 30


# ---- memory --------------------------------------------------------------------------------------


def available():
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemAvailable:\s+(\d+) kB", file.read()).group(1)) * 1024


def fits(numbers, dtype):
    """With what loading and widening need beside them, and activations."""
    return 1.3 * numbers * dtype.itemsize + 3 * GIB < available()


def parameters(directory):
    """How many numbers a directory's tensors have."""
    count = 0
    for path in tensor_files(directory):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                n = 1
                for size in file.get_slice(name).get_shape():
                    n *= size
                count += n
    return count


def tensor_files(directory):
    return [p for p in files_of("unet", Path(directory)) if p.suffix == ".safetensors"]


# ---- upstream, one block of the LLM at a time ----------------------------------------------------


def streamed_llm(directory, dtype):
    """load_llm, but a block's weights are in memory only while it runs."""
    config = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    files = [safe_open(path, "pt") for path in tensor_files(directory)]
    where = {name.removeprefix("model."): (file, name) for file in files for name in file.keys()}
    # In a thread of its own: f64.py's modes are the other's, and a stored half is no float64.
    reader = ThreadPoolExecutor(1)

    def read(path):
        file, name = where[path]
        return file.get_tensor(name).to(dtype)

    def fill(module, path):
        for name, _ in list(module.named_parameters()):
            parent, _, last = name.rpartition(".")
            x = reader.submit(read, f"{path}.{name}").result()
            setattr(module.get_submodule(parent), last, nn.Parameter(x, requires_grad=False))

    def empty(module):
        for part in module.modules():
            for name, p in list(part.named_parameters(recurse=False)):
                setattr(part, name, nn.Parameter(torch.empty(p.shape, device="meta"), requires_grad=False))

    model, blocks = llm.model, llm.model.layers
    fill(model.embed_tokens, "embed_tokens")
    for name, module in model.named_children():
        if name not in ("embed_tokens", "layers") and list(module.parameters()):
            fill(module, name)
    model.rotary_emb = type(model.rotary_emb)(config)
    if dtype == torch.float64:
        lift(model.rotary_emb)
    for l, block in enumerate(blocks):
        # The block before is let go only now: its word score is computed after it has run.
        def begin(block, args, l=l):
            empty(blocks[l - 1])
            fill(block, f"layers.{l}")

        block.register_forward_pre_hook(begin)
    return llm


# ---- the runs ------------------------------------------------------------------------------------


def upstream(a, dtype, to, force=None):
    """A trace of upstream's run; writes a.noise, which all others take, if it isn't there."""
    begin = time.time()
    whole = a.llm_parameters + a.unet_parameters + a.vae_parameters
    by_block = a.by_block or not fits(whole, dtype)
    load_llm = streamed_llm if by_block else llmdiff_torch.load_llm
    pack = load_pack(a.pack, dtype, sampler=a.sampling_method, load_llm=load_llm)
    ids = prompt_ids(pack, a.prompt, a.negative_prompt, a.cfg_scale)
    if not a.noise.exists():
        seed = a.seed + int(a.noise.stem.split("_")[-1])
        hooks.save(a.noise, draw_noise(pack, ids, seed, a.steps, a.eta, a.height, a.width))
    see = hooks.FileTrace(hooks.Reference(force) if force else None, a.only)
    noise = load_file(a.noise)
    with precision(dtype):
        generate(pack, ids, noise, steps=a.steps, cfg_scale=a.cfg_scale, eta=a.eta, see=see)
    see.save(to, {"program": "verify_real.py", "precision": str(dtype)[6:]})
    told(f"upstream {str(dtype)[6:]}, {'forced' if force else 'free'}", begin,
         ", the LLM block by block" if by_block else "")
    del pack
    gc.collect()


def llmdiff(a, program, to, force=None):
    begin = time.time()
    command = [ROOT / program, "generate", "-m", a.pack, "-p", a.prompt, "-n", a.negative_prompt,
               "--steps", a.steps, "--cfg-scale", a.cfg_scale, "--eta", a.eta, "-W", a.width, "-H", a.height,
               "--noise", a.noise, "--trace", to, "-o", a.work / f"{program}.png", "--quiet"]
    command += ["--sampling-method", a.sampling_method] if a.sampling_method else []
    command += ["--force", force] if force else []
    command += ["--trace-only", a.only] if a.only else []
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program}: {done.stderr}")
    told(f"{program}, {'forced' if force else 'free'}", begin)


def told(what, begin, more=""):
    print(f"{what}: {time.time() - begin:.0f} s{more}", flush=True)


def compare(reference, mine):
    """The report of `llmdiff compare`."""
    done = subprocess.run([str(x) for x in (ROOT / "llmdiff", "compare", reference, mine, "--json", "-")],
                          capture_output=True, text=True)
    if not done.stdout:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


# ---- judging -------------------------------------------------------------------------------------


def module(name):
    return re.sub(r"unet/\d+/(un)?cond/|^uncond/", "", name)


def widen(worst, report):
    for row in report["rows"]:
        worst[module(row["name"])] = max(row["max_rel"], worst.get(module(row["name"]), 0.0))


def with_yardsticks(truth, worst, to):
    """The truth again, with upstream float32's own errors in its metadata."""
    copy = hooks.FileTrace()
    with safe_open(truth, "pt") as file:
        for name in file.offset_keys():
            copy[name] = file.get_tensor(name)
    copy.save(to, {f"yardstick:{name}": repr(worst[module(name)]) for name in copy})


STAGES = {
    "LLM": r"(uncond/)?(ids|llm/.*)",
    "Algorithm 1, phi": r"(uncond/)?(alg1|adapter)/.*",
    "U-Net, first evaluation": r"unet/0/.*",
    "U-Net, last evaluation": None,
    "latents": r"latents/.*|sampler/.*",
    "VAE, image": r"vae/.*|image",
}


def table(reports):
    """Markdown: of each stage the largest error, relative to the tensor's largest magnitude."""
    columns = list(reports)
    names = [row["name"] for row in next(iter(reports.values()))["rows"]]
    last = max((int(n.split("/")[1]) for n in names if n.startswith("unet/")), default=0)
    lines = ["| stage | tensors | " + " | ".join(columns) + " |", "|---" * (2 + len(columns)) + "|"]
    for stage, pattern in STAGES.items():
        pattern = pattern or rf"unet/{last}/.*"
        cells = []
        for report in reports.values():
            rows = [r for r in report["rows"] if re.fullmatch(pattern, r["name"]) and "max_rel" in r]
            wrong = sum(r["verdict"] != "match" for r in rows)
            cells.append(f"{max((r['max_rel'] for r in rows), default=0):.1e}"
                         + (f", {wrong} off" if wrong else ""))
        count = sum(re.fullmatch(pattern, name) is not None for name in names)
        lines.append(f"| {stage} | {count} | " + " | ".join(cells) + " |")
    verdicts = [f"{r['counts']['match']} of {sum(r['counts'].values()) - r['counts']['extra']} match"
                for r in reports.values()]
    return "\n".join([*lines, f"| all | {len(names)} | " + " | ".join(verdicts) + " |"])


def main():
    a = arguments()
    for library in (transformers, diffusers):
        library.utils.logging.disable_progress_bar()
    a.work.mkdir(parents=True, exist_ok=True)
    a.pack = make_pack(a)
    a.llm_parameters, a.unet_parameters, a.vae_parameters = (
        parameters(a.pack / part) for part in ("llm", "unet", "vae"))
    exact = fits(a.unet_parameters + a.vae_parameters, torch.float64)
    print(f"LLM {a.llm_parameters / 1e9:.2f}, U-Net {a.unet_parameters / 1e9:.2f} billion numbers; "
          f"{available() / GIB:.0f} GiB of memory free; {a.width}x{a.height}, {a.steps} steps", flush=True)

    file = lambda name: a.work / f"{name}.safetensors"
    truth, judge, mine = file("truth"), file("judge"), file("mine")
    worst, own = {way: {} for way in WAYS}, {}
    for seed in reversed(range(a.seeds if exact else 1)):  # the last one's truth stays: the first seed's
        a.noise = file(f"noise_{seed}")
        a.noise.unlink(missing_ok=True)
        upstream(a, torch.float64 if exact else torch.float32, truth)
        for way in WAYS if exact else ():
            upstream(a, torch.float32, mine, truth if way == "forced" else None)
            own[way] = compare(truth, mine)
            widen(worst[way], own[way])
    failed = False
    for way in WAYS:
        force, reports = truth if way == "forced" else None, {}
        reference = truth
        if exact:
            reports["upstream float32"] = own[way]
            with_yardsticks(truth, worst[way], judge)
            reference = judge
        for program in ("llmdiff", "llmdiff-f64") if exact else ("llmdiff",):
            llmdiff(a, program, mine, force)
            report = reports[program] = compare(reference, mine)
            failed |= report["code"] != 0
            if report["first_divergence"]:
                print(f"{program}, {way}: first divergence", json.dumps(report["first_divergence"]),
                      *report["hints"], sep="\n  ")
        print(f"\n{way}, reference upstream {'float64' if exact else 'float32'}\n\n{table(reports)}\n",
              flush=True)
    for path in (truth, judge, mine, *a.work.glob("noise_*")):
        path.unlink(missing_ok=True)
    sys.exit(failed)


def make_pack(a):
    """A directory of links: llm, unet, vae, scheduler, adapter."""
    pack = a.work / "pack"
    shutil.rmtree(pack, ignore_errors=True)
    pack.mkdir()
    (pack / "llm").symlink_to(a.llm.resolve())
    for part in ("unet", "vae", "scheduler"):
        (pack / part).symlink_to((a.sd / part).resolve())
    if a.adapter:
        (pack / "adapter").symlink_to(a.adapter.resolve())
    else:
        unet = UNet2DConditionModel.from_pretrained(a.sd / "unet", torch_dtype=torch.float16)
        llm = argparse.Namespace(config=AutoConfig.from_pretrained(a.llm))
        random_adapter(pack / "adapter", generator("verify_real"), llm, unet, normalize="rms")
    (pack / "model_index.json").write_text(json.dumps({"_class_name": "LLMDiffPipeline"}) + "\n")
    return pack


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", type=Path, required=True, help="config.json, tensors, tokenizer")
    parser.add_argument("--sd", type=Path, required=True, help="unet/ vae/ scheduler/")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("-p", "--prompt", default="a red circle to the left of a blue square")
    parser.add_argument("-n", "--negative-prompt", default="")
    parser.add_argument("-W", "--width", type=int, default=256)
    parser.add_argument("-H", "--height", type=int, default=256)
    parser.add_argument("-s", "--seed", type=int, default=42)
    parser.add_argument("--seeds", type=int, default=2, help="of upstream's yardstick")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--cfg-scale", type=float, default=7.5)
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("--sampling-method", choices=SAMPLERS, default="ddim")
    parser.add_argument("--only", help="the names to trace and compare, a regular expression")
    parser.add_argument("--by-block", action="store_true", help="the LLM block by block in any case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "verify-real",
                        help="for the traces, some gigabytes")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    return a


if __name__ == "__main__":
    with torch.no_grad():
        main()

"""Training steps of llmdiff beside PyTorch's: time and memory, in one run.

    make bench-train                            # weights/tiny
    make bench-train ARGS="--full DIR"          # and a pack of full size (SD 1.5 with Phi-1.5)

Both programs do the same steps on the same numbers (their losses are compared), with two threads, in turns,
`--rounds` times; a time is the best of all steps but each process's first. PyTorch's allocator keeps what
it is given back (MALLOC_*), which it needs: without, half of its time goes into page faults. A full-size
PyTorch process takes 7 GB; the two never run at the same time.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
OURS = HERE.parent / "build/f32/bench_train"
TUNED = {"MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_MMAP_THRESHOLD_": "100000000000"}


def run(command, tuned):
    # passive: on cores that other programs use too, threads that spin where they wait cost both of them
    # most of their time (llmdiff sets this itself). Both choose their kernels by the processor.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    environment = {"OMP_WAIT_POLICY": "passive", **environment, **tuned}
    text = subprocess.run(command, env=environment, check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    steps = [dict(zip(line.split()[::2], map(float, line.split()[1::2])))
             for line in text.splitlines() if line.startswith("loss")]
    return steps, float(re.search(r"peak (\S+)", text)[1])


def best(runs):
    """The fastest step after each process's first, part by part, and the largest peak."""
    steps = [{**s, "step": s["forward"] + s["backward"] + s["optimizer"]}
             for steps, _ in runs for s in steps[1:]]
    return {k: min(s[k] for s in steps) for k in steps[0]} | {"peak": max(p for _, p in runs)}


def compare(title, a, pack, resolution, batch, steps, ours=(), theirs=()):
    with tempfile.TemporaryDirectory() as directory:
        inputs = f"{directory}/inputs.safetensors"
        torch = [sys.executable, HERE / "bench_train.py", pack, inputs]
        subprocess.run([*torch, "--write", f"--resolution={resolution}", f"--batch={batch}"], check=True)
        common = ["--steps", str(steps + 1), "--threads", str(a.threads)]
        c, py = [], []
        for _ in range(a.rounds):
            c.append(run([OURS, pack, inputs, *common, *ours], {}))
            py.append(run([*torch, *common, *theirs], TUNED))
    far = max(abs(s["loss"] / t["loss"] - 1) for s, t in zip(c[0][0], py[0][0]))
    c, py = best(c), best(py)
    for name, x in (("llmdiff", c), ("PyTorch", py)):
        print(f"{title:34} {name:8} {x['forward']:9.3f} {x['backward']:9.3f} {x['optimizer']:9.3f} "
              f"{x['step']:9.3f} {x['processor']:9.3f} {x['peak']:8.0f}")
        title = ""
    print(f"{'':34} {'ratio':8} {'':9} {c['backward'] / c['forward']:8.2f}x {'':9} "
          f"{c['step'] / py['step']:9.2f} {c['processor'] / py['processor']:9.2f} "
          f"{c['peak'] / py['peak']:8.2f}   losses differ by {far:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", help="a pack of full size")
    parser.add_argument("--only", default="", help="cases whose title this regular expression matches")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()

    tiny, full = HERE.parent / "weights/tiny", a.full
    checkpointing = ["--checkpointing"]
    cases = [("tiny 64x64, batch 1", tiny, 64, 1, 20, [], []),
             ("tiny 64x64, batch 16", tiny, 64, 16, 8, [], ["--batched"]),
             ("the same, PyTorch one by one", tiny, 64, 16, 8, [], [])]
    if full:
        cases += [("256x256", full, 256, 1, 2, [], []),
                  ("256x256, batch 4", full, 256, 4, 1, [], ["--batched"]),
                  ("512x512", full, 512, 1, 1, [], []),
                  ("512x512, checkpointing", full, 512, 1, 1, checkpointing, checkpointing)]
    print(f"{'':34} {'':8} {'forward':>9} {'backward':>9} {'optimizer':>9} {'step':>9} "
          f"{'processor':>9} {'peak':>8}\n{'seconds, MB':43} {'':9} {'/forward':>9}")
    for title, *rest in cases:
        if re.search(a.only, title):
            compare(title, a, *rest)


if __name__ == "__main__":
    main()

"""Are these the pinned versions, and are these files the committed ones?

    python golden/reproduced.py versions          # against requirements.txt
    python golden/reproduced.py goldens PACKS     # golden/data as it is now, and packs built in PACKS
    python golden/reproduced.py kit PACKS         # golden/kit as it is now

Exit status 1 where a version differs, a file is missing, or a number moved by more than another CPU's
rounding would move it.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FILES = {"goldens": ("golden/data", "golden/micro", "golden/micro_clip"),
         "kit": ("golden/kit", "golden/data/kit_port_*")}
REBUILT = ("golden/data/", "golden/kit/")  # in their place; the packs are frozen
ROUNDING = 1e-12  # of a tensor's largest magnitude: float64, summed in another order


def versions():
    wrong = []
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if "==" not in line or line.startswith("#"):
            continue
        name, wanted = line.split("==")
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            wrong.append(f"{name}: {wanted} wanted, {found} found")
    if wrong:
        sys.exit("\n".join(wrong) + f"\n{sys.executable}: see golden/requirements.txt, or set PYTHON")


def git(*args):
    return subprocess.run(["git", "-C", ROOT, *args], check=True, capture_output=True).stdout


def difference(old, new):
    """The largest difference of two safetensors, relative to each tensor's largest magnitude."""
    from safetensors.torch import load

    from common import relative_error

    a, b = load(old), load(new)
    if a.keys() != b.keys() or any(a[k].shape != b[k].shape for k in a):
        return float("inf")
    return max(relative_error(b[k].double(), a[k].double()) for k in a)


def compare(what, packs):
    same, moved, bad = 0, [], []
    for name in git("ls-files", *FILES[what]).decode().split():
        old = git("show", f"HEAD:{name}")
        path = (ROOT if name.startswith(REBUILT) else Path(packs)) / name
        if not path.exists():
            bad.append(f"{name}: not rebuilt")
        elif path.read_bytes() == old:
            same += 1
        elif not name.endswith(".safetensors"):
            bad.append(f"{name}: differs")
        else:
            d = difference(old, path.read_bytes())
            text = f"{name}: differs by {d:.1e}" if d else f"{name}: same numbers, other yardsticks"
            (moved if d <= ROUNDING else bad).append(text)
    print(f"{same} files reproduced byte for byte, {len(moved)} to rounding, {len(bad)} not")
    for line in moved + bad:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1] == "versions":
        versions()
    else:
        sys.exit(compare(*sys.argv[1:]))

"""Does upstream pass golden/kit, as ./llmdiff verify judges it?

- The lines of port_example.py.
- Everything that upstream computes through llmdiff_torch.py and hooks.py, free and forced, in float64,
  float32, bfloat16 and float16: PORTS is what make_kit.py --ports wrote. (Training has no half types.)
- llmdiff itself; its traces have the pack hashes of pack_hash.py; and on micro it does what upstream
  does, by verify_real.py with the LLM block by block.

    python golden/check_kit.py PORTS
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open

from common import HERE
from pack_hash import pack_files, pack_sha256, parts_of

ROOT, KIT = HERE.parent, HERE / "kit"


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def verified(what, *options):
    code, text = run(ROOT / "llmdiff", "verify", "--kit", KIT, *options)
    if code:
        sys.exit(f"{what}: llmdiff verify said {code}\n{text}")
    print(f"{what}: {text.strip().splitlines()[-2]}")


def example(directory):
    code, text = run(sys.executable, HERE / "port_example.py", KIT, directory)
    assert code == 0, text
    verified("port_example.py", "--port", directory,
             "--only", "^(operators/(silu|quick_gelu|gelu_new|softmax)|train/adamw)/")


def hashes(directory):
    manifest = json.loads((KIT / "manifest.json").read_text())
    for name, pack in manifest["packs"].items():
        assert pack["sha256"] == pack_sha256(parts_of(KIT / pack["path"])), f"{name} is not the kit's"
    for adapter, more in (("adapter", {}), ("adapter_c", {"adapter": HERE / "micro" / "adapter_c"})):
        trace = Path(directory) / "trace.safetensors"
        code, text = run(ROOT / "llmdiff", "encode", "-m", HERE / "micro", "-p", "a red circle", "--quiet",
                         *(("--adapter", more["adapter"]) if more else ()),
                         "-o", Path(directory) / "c.safetensors", "--trace", trace)
        assert code == 0, text
        with safe_open(trace, "pt") as file:
            told = file.metadata()
        read = {line.split("/")[0].split()[-1] for line in told["pack_files"].splitlines()}
        parts = {k: v for k, v in (parts_of(HERE / "micro") | more).items() if k in read}
        assert told["pack_files"] == pack_files(parts), (told["pack_files"], pack_files(parts))
        assert told["pack_sha256"] == pack_sha256(parts)
    print(f"pack_hash.py: as in llmdiff's traces, of {len(manifest['packs'])} packs")


def side_by_side(directory):
    code, text = run(sys.executable, HERE / "verify_real.py", "--llm", HERE / "micro" / "llm",
                     "--sd", HERE / "micro", "-W", 16, "-H", 12, "--by-block", "--seeds", 8,
                     "--work", directory)
    assert code == 0, text
    print(f"verify_real.py: {text.count('match |')} runs beside upstream match")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        example(directory)
        hashes(directory)
        side_by_side(directory)
    for ports in sorted(Path(sys.argv[1]).iterdir()):
        drawing = ["--only", "^(operators|modules|algorithm1|unet|picture)"]
        verified(f"upstream in {ports.name}", "--port", ports, *(drawing if "16" in ports.name else []))
    verified("llmdiff")

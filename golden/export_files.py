"""Files as upstream's own libraries write them, for the reading tests: golden/data/files/.

    /opt/golden-venv/bin/python golden/export_files.py

safetensors and huggingface_hub (shards and their index), numpy and torch write; tests/test_weights_*.c
read. Element i of a tensor is (i - 1) / 2 for floating-point types and i for whole numbers, unless
the test says otherwise.
"""

import io
import json
import shutil
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

FILES = Path(__file__).resolve().parent / "data" / "files"


def counting(*shape, dtype=torch.float32):
    n = int(np.prod(shape))
    i = torch.arange(n)
    return ((i - 1) / 2 if dtype.is_floating_point else i).to(dtype).reshape(shape)


def safetensors_files():
    tensors = {
        "f64": counting(2, 3, dtype=torch.float64),
        "f32": counting(3, 5),
        "f16": counting(7, dtype=torch.float16),
        "bf16": counting(3, 3, dtype=torch.bfloat16),
        "i64": counting(3, dtype=torch.int64),
        "i32": counting(3, dtype=torch.int32),
        "i16": counting(3, dtype=torch.int16),
        "i8": counting(3, dtype=torch.int8),
        "u8": counting(5, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "eight": counting(1, 2, 1, 2, 1, 2, 1, 2),
        "half limits": torch.tensor(
            [2.0**-24, 2.0**-14, 65504.0, float("-inf"), -0.0, float("nan")], dtype=torch.float16
        ),
        "bfloat limits": torch.tensor(
            [2.0**-133, 2.0**-126, -(2.0**127), float("inf"), -0.0, float("nan")],
            dtype=torch.bfloat16,
        ),
        'a "name" with \\ and \u00e9': counting(2),
    }
    save_file(tensors, FILES / "types.safetensors", metadata={"note": "h\u00e9 \"quoted\""})
    save_file({}, FILES / "nothing.safetensors")
    save_file({"x": counting(2).to(torch.float8_e4m3fn)}, FILES / "float8.safetensors")
    save_file({"x": counting(*[1] * 9)}, FILES / "nine.safetensors")


def sharded_model():
    directory = FILES / "sharded"
    directory.mkdir()
    state = {f"layers.{i}.weight": counting(4, 3 + i) for i in range(4)}
    state["norm.weight"] = counting(5, dtype=torch.float16)
    save_torch_state_dict(state, directory, max_shard_size=150, filename_pattern="model{suffix}.safetensors")
    assert len(list(directory.glob("model-*.safetensors"))) >= 2
    config = {"_class_name": "Sharded", "hidden": 4}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def npy(name, array, version=None):
    with open(FILES / name, "wb") as f:
        np.lib.format.write_array(f, array, version=version)


def npy_files():
    i = (np.arange(24) - 1) / 2
    npy("f4.npy", i.astype("<f4").reshape(2, 3, 4))
    npy("f8_fortran.npy", np.asfortranarray(i.reshape(2, 3, 4)))
    npy("f2_v2.npy", i[:5].astype("<f2"), version=(2, 0))
    npy("f4_v3.npy", i[:6].astype("<f4").reshape(2, 3), version=(3, 0))
    npy("scalar.npy", np.float64(2.5))
    npy("empty.npy", np.zeros((0, 3), "<f4"))
    npy("big_endian.npy", i[:4].astype(">f4"))
    npy("i8.npy", np.arange(4, dtype="<i8"))
    npy("record.npy", np.zeros(2, [("a", "<f4"), ("b", "<f4")]))


class Pipe(io.RawIOBase):
    """What can't be sought in: sizes and CRC then follow a member's data."""

    def __init__(self, file):
        self.file = file

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)


def npz_files():
    i = (np.arange(24) - 1) / 2
    arrays = {
        "f4": i.astype("<f4").reshape(2, 3, 4),
        "unet/0/f8": np.asfortranarray(i.reshape(2, 3, 4)),
        "i8": np.arange(3),
        "bool": np.array([True, False, True]),
        "u1": np.arange(5, dtype="u1"),
        "i2": np.arange(4, dtype="<i2"),
        "empty": np.zeros((0, 3), "<f2"),
        "scalar": np.float64(2.5),
    }
    np.savez(FILES / "stored.npz", **arrays)
    np.savez_compressed(FILES / "deflated.npz", **arrays)
    with open(FILES / "piped.npz", "wb") as f:
        np.savez_compressed(Pipe(f), **arrays)
    # zip64 in small: every number is too large for the plain records
    with mock.patch.multiple(zipfile, ZIP64_LIMIT=8, ZIP_FILECOUNT_LIMIT=1):
        np.savez(FILES / "zip64.npz", **arrays)
    np.savez(FILES / "two.npz", a=i[:6].astype("<f4"), b=i[:2])
    np.savez(FILES / "none.npz")
    np.savez(FILES / "object.npz", x=np.array([None, 1], dtype=object))
    np.savez(FILES / "bfloat16.npz", x=np.zeros(2, "V2"))
    with zipfile.ZipFile(FILES / "text.npz", "w") as z:
        z.writestr(zipfile.ZipInfo("readme.txt"), "no array")
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }".ljust(4999) + "\n"
    with zipfile.ZipFile(FILES / "long_header.npz", "w", zipfile.ZIP_DEFLATED) as z:
        array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(4)
        z.writestr(zipfile.ZipInfo("x.npy"), array, zipfile.ZIP_DEFLATED)
    torch.save({"x": counting(3)}, FILES / "torch.pt")


if __name__ == "__main__":
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir(parents=True)
    safetensors_files()
    sharded_model()
    npy_files()
    npz_files()
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            print(f"{path.relative_to(FILES)}: {path.stat().st_size} bytes")

"""What tells one pack from another: the hash that llmdiff's traces and the kit's manifest have.

    python golden/pack_hash.py golden/micro          # the text, and its hash

The text has a line "<SHA-256 of the file>  <part>/<file name>" for every file that a run reads, as
`sha256sum` prints it, sorted by the bytes of the name; the pack's hash is the text's. A part keeps its
name wherever its directory is. Of the parts llm, unet, vae, adapter and text_encoder those are
config.json, the tensors and, where they are in shards, their index; scheduler_config.json; and the
tokenizer's files, in llm or, for CLIP, in tokenizer.
"""

import hashlib
import json
import sys
from pathlib import Path

MODELS = ("llm", "unet", "vae", "adapter", "text_encoder")
STEMS = ("model", "diffusion_pytorch_model", "adapter")
TOKENIZER = ("added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json",
             "tokenizer.model", "tokenizer_config.json", "vocab.json")


def parts_of(pack):
    """{part: directory} of a pack's directory; of an LLM's own {"llm": it}."""
    pack = Path(pack)
    parts = {p.name: p for p in sorted(pack.iterdir())
             if p.name in (*MODELS, "scheduler", "tokenizer") and p.is_dir()}
    return parts or {"llm": pack}


def files_of(part, directory):
    names = {"scheduler": ["scheduler_config.json"], "tokenizer": TOKENIZER}.get(part)
    if names is None:
        names = ["config.json"] + (list(TOKENIZER) if part == "llm" else [])
        for stem in STEMS:
            index = f"{stem}.safetensors.index.json"
            names.append(f"{stem}.safetensors")
            if (directory / index).exists():
                shards = json.loads((directory / index).read_text())["weight_map"].values()
                names += [index, *sorted(set(shards))]
    return [directory / name for name in names if (directory / name).exists()]


def pack_files(parts):
    lines = []
    for part, directory in parts.items():
        for path in files_of(part, Path(directory)):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append((f"{part}/{path.name}", digest))
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(lines))


def pack_sha256(parts):
    return hashlib.sha256(pack_files(parts).encode()).hexdigest()


if __name__ == "__main__":
    parts = parts_of(sys.argv[1])
    print(pack_files(parts) + pack_sha256(parts))

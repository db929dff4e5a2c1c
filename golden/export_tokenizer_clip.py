"""Expected ids of CLIP's tokenizer, from transformers' CLIPTokenizer (without ftfy).

golden/data/tokenizer/clip/        a vocabulary of our own by CLIP's recipe: 256 letters, 256 letters
                                   that end a word, 600 merges, two special tokens; files as SD 1.x has them
golden/data/tokenizer/clip_json/   the same as CLIPTokenizer saves it
golden/data/tokenizer/clip_older/  the same tokenizer.json with the pattern of transformers 4
golden/data/tokenizer/clip_tiny/   the vocabulary of transformers' own test: 23 pieces, <unk>
golden/data/tokenizer_clip.safetensors
    bytes, begin            the strings beyond those of tokenizer.safetensors
    <v>/ids, <v>/begin      for v = clip (49,408 pieces, as in SD 1.x) of the strings there and those
                            here; own (clip, clip_json, clip_older) of every second one there, and
                            those here; tiny of the last 300 of those
    <v>/text, <v>/text_begin    what upstream decodes the ids of the strings here to
    <v>/random, <v>/random_text, <v>/random_begin   64 x 12 random ids and what upstream decodes
    own/padded              [24, 77] the first of `long`, padded and truncated; own/padded_text(_begin)
                            their texts; own/padded_sd2 the same with the pad token "!" of SD 2.x
    lower/code, lower/first, lower/second    the characters that change in lower case (second: 0 or U+0307)
    class_0                 the marks that upstream's NFC does not move others over, as runs (first, last)
"""

import gzip
import json
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from common import Golden
from export_tokenizer import OUT, SHARED, put_ragged, put_random_decodes, write
from tokenizer_extra import clip_strings, common_strings, put_strings, text_of
from tokenizer_strings import CODE, SENTENCES, captions

transformers.logging.set_verbosity_error()
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def recipe(merges):
    """openai/CLIP, clip/simple_tokenizer.py."""
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(b) for b in printable] + [chr(0x100 + i) for i in range(68)]
    pieces = letters + [x + "</w>" for x in letters] + ["".join(m) for m in merges] + [BEGIN, END]
    vocab = {p: i for i, p in enumerate(pieces)}
    assert len(vocab) == len(pieces)
    return vocab


def train():
    """Frozen once it is there: the trainer breaks ties differently from run to run."""
    frozen = OUT / "clip/merges.txt"
    if frozen.exists():
        return [tuple(line.split(" ")) for line in frozen.read_text().splitlines()[1:]]
    text = captions(random.Random("clip training"), 400) + SENTENCES[:14] + CODE
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    t.normalizer, t.pre_tokenizer = made().normalizer, made().pre_tokenizer
    t.train_from_iterator(text, trainers.BpeTrainer(vocab_size=1300, show_progress=False, end_of_word_suffix="</w>", initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return [tuple(m) for m in json.loads(t.to_str())["model"]["merges"]][:600]


def made():
    return CLIPTokenizer(vocab={BEGIN: 0, END: 1}, merges=[])._tokenizer


def token(s):
    return {"content": s, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def write_files(folder, vocab, merges, pad=END, unk=END):
    """As in SD 1.x: pad_token is a string, the others are objects."""
    typed = lambda s: {"__type": "AddedToken"} | token(s)
    write(folder / "vocab.json", vocab)
    write(folder / "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    write(folder / "special_tokens_map.json", {"bos_token": token(BEGIN), "eos_token": token(END), "pad_token": pad, "unk_token": token(unk)}, indent=2)
    write(folder / "tokenizer_config.json", {"add_prefix_space": False, "bos_token": typed(BEGIN), "do_lower_case": True, "eos_token": typed(END), "errors": "replace", "model_max_length": 77,
                                             "pad_token": pad, "tokenizer_class": "CLIPTokenizer", "unk_token": typed(unk)}, indent=2)


def write_tiny():
    pieces = "l o w e r s t i d n lo l</w> w</w> r</w> t</w> low</w> er</w> lowest</w> newer</w> wider <unk>".split() + [BEGIN, END]
    write_files(OUT / "clip_tiny", {p: i for i, p in enumerate(pieces)}, [("l", "o"), ("lo", "w</w>"), ("e", "r</w>")], unk="<unk>")


def put(g, name, t, texts, own_from):
    ids = [t.encode(s, add_special_tokens=False) for s in texts]
    put_ragged(g, f"{name}/ids", f"{name}/begin", ids, np.int16)
    put_ragged(g, f"{name}/text", f"{name}/text_begin", [t.decode(i).encode() for i in ids[own_from:]], np.uint8)
    put_random_decodes(g, name, t.decode, range(len(t)))
    return ids


def put_padded(g, folder):
    r = random.Random("padded")
    words = " ".join(captions(r, 60)).split()
    texts = ["", "a", END, "a" + END + "b"] + [" ".join(r.choice(words) for _ in range(n)) for n in range(1, 100, 5)]
    for name, pad in (("own/padded", END), ("own/padded_sd2", "!")):
        with tempfile.TemporaryDirectory() as temporary:
            temporary = Path(temporary)
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
            for file in ("special_tokens_map.json", "tokenizer_config.json"):
                write(temporary / file, json.loads((temporary / file).read_text()) | {"pad_token": pad})
            t = CLIPTokenizer.from_pretrained(temporary)
        g.put(name, torch.tensor(t(texts, padding="max_length", truncation=True, max_length=t.model_max_length).input_ids, dtype=torch.int32))
    put_ragged(g, "own/padded_text", "own/padded_text_begin", [s.encode() for s in texts], np.uint8)


def put_characters(g):
    lower, nfc = normalizers.Lowercase(), normalizers.NFC()
    changed, class_0 = [], []
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        low = lower.normalize_str(chr(c))
        if low != chr(c):
            assert len(low) == 1 or low[1:] == "\u0307"
            changed.append((c, ord(low[0]), 0x307 if len(low) == 2 else 0))
        # sorted, U+0334 (class 1) would come first and U+0345 (class 240) last
        if c >= 0x300 and nfc.normalize_str("x\u0345" + chr(c) + "\u0334") == "x\u0345" + chr(c) + "\u0334":
            if class_0 and class_0[-1][1] == c - 1:
                class_0[-1][1] = c
            else:
                class_0.append([c, c])
    for i, name in enumerate(("code", "first", "second")):
        g.put(f"lower/{name}", torch.tensor([x[i] for x in changed], dtype=torch.int32))
    g.put("class_0", torch.tensor(class_0, dtype=torch.int32))


def main():
    merges = train()
    for name in ("clip", "clip_json", "clip_older", "clip_tiny"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    write_files(OUT / "clip", recipe(merges), merges)
    write_tiny()
    own = CLIPTokenizer.from_pretrained(OUT / "clip")
    own.save_pretrained(OUT / "clip_json")
    saved = json.loads((OUT / "clip_json/tokenizer.json").read_text())
    write(OUT / "clip_json/tokenizer.json", saved)  # without the white space
    split = saved["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    split["Regex"] = split["Regex"].removeprefix(r"<\|startoftext\|>|<\|endoftext\|>|")
    write(OUT / "clip_older/tokenizer.json", saved)
    shutil.copy(OUT / "clip/tokenizer_config.json", OUT / "clip_older")
    shutil.copy(OUT / "clip/special_tokens_map.json", OUT / "clip_older")

    g = Golden("tokenizer_clip")
    g.metadata["transformers"] = transformers.__version__
    common = common_strings()
    more = [s for s in clip_strings(list(recipe(merges))) if s not in set(common)]
    put_strings(g, more)
    half, rest = [text_of(s) for s in common[::2]], [text_of(s) for s in more]
    texts = half + rest

    ids = put(g, "own", own, texts, len(half))
    for layout in ("clip_json", "clip_older"):
        other = CLIPTokenizer.from_pretrained(OUT / layout)
        differ = [s for s, i in zip(texts, ids) if other.encode(s, add_special_tokens=False) != i]
        print(f"{layout}: {len(differ)} of {len(texts)} strings differ")
        assert not differ, differ[:5]
    put(g, "tiny", CLIPTokenizer.from_pretrained(OUT / "clip_tiny"), rest[-300:], 0)
    put_padded(g, OUT / "clip")

    with tempfile.TemporaryDirectory() as folder:
        lines = gzip.open(SHARED / "clip_bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")
        merges = [tuple(line.split()) for line in lines[1 : 1 + 49408 - 512 - 2]]
        write_files(Path(folder), recipe(merges), merges)
        clip = CLIPTokenizer.from_pretrained(folder)
        assert len(clip) == 49408
        put(g, "clip", clip, [text_of(s) for s in common] + rest, len(common))
    put_characters(g)
    g.save()
    print(f"{len(texts)} strings; {len(common) + len(rest)} with CLIP's own vocabulary")


if __name__ == "__main__":
    sys.exit(main())

"""Expected ids of SentencePiece BPE, from transformers' LlamaTokenizer and the sentencepiece library.

golden/data/tokenizer/spm_model/    tokenizer.model alone: 1,000 pieces, trained with Llama's settings
golden/data/tokenizer/spm_json/     tokenizer.json as LlamaTokenizer saves it, merges by upstream's
                                    converter, which orders them by score; tokenizer_config.json
golden/data/tokenizer/spm_mistral/  the same as Mistral's: normalizer Prepend and Replace, read as it is
golden/data/tokenizer_spm.safetensors
    bytes, begin          the strings beyond those of tokenizer.safetensors
    <v>/ids, <v>/begin    for v = llama (Llama's own tokenizer.model) of the strings there and those here;
                          own (spm_model and spm_json) of every second one there, and those here;
                          legacy (spm_json, "legacy": true) and mistral (spm_mistral) of those here
    <v>/changed, <v>/text, <v>/text_begin    numbers of the strings that decode to something else, and to what
    <v>/random, <v>/random_text, <v>/random_begin   64 x 12 random ids and what upstream decodes

LlamaTokenizer.from_pretrained on a bare tokenizer.model orders merges by id and forgets the scores
(transformers 5.23, SentencePieceExtractor.extract calls generate_merges without them), so that
Llama's runs of spaces, of the first ids and the lowest scores, are joined first. The sentencepiece
library, all of transformers 4 and the published tokenizer.json go by score. So the oracle for a bare
tokenizer.model is the class with the merges by score, asserted here to be what sentencepiece does.
"""

import json
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer
from transformers import LlamaTokenizer
from transformers.convert_slow_tokenizer import generate_merges

from common import Golden
from export_tokenizer import OUT, SHARED, put_ragged, put_random_decodes, write
from tokenizer_extra import LOW_LINE, common_strings, put_strings, spm_strings, text_of
from tokenizer_strings import CODE, SENTENCES, captions

transformers.logging.set_verbosity_error()
SPECIAL = ["<unk>", "<s>", "</s>"]
CONFIG = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False, "model_max_length": 2048}


def train(path):
    """With Llama's settings, and as in Llama's model the runs of spaces get the lowest score. Frozen
    once it is there: the trainer stores the name of a temporary file in it."""
    if path.exists():
        return
    text = captions(random.Random("sentencepiece training"), 400) + SENTENCES[:14] + CODE * 3
    lines = [line.replace("\t", "    ") for t in text for line in t.split("\n") if line]
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=f"{folder}/m", model_type="bpe", vocab_size=1000, byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True,
            normalization_rule_name="identity", add_dummy_prefix=True, remove_extra_whitespaces=False, character_coverage=0.99995, num_threads=1, minloglevel=2)
        data = Path(f"{folder}/m.model").read_bytes()
    low = np.float32(-1e9).tobytes()
    for n in (2, 4, 8):
        piece = (LOW_LINE * n).encode()
        data = re.sub(re.escape(b"\x0a" + bytes([len(piece)]) + piece + b"\x15") + b"....", lambda m: m[0][:-4] + low, data, flags=re.S)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def read(path):
    """The library, not adding a prefix, the pieces by id, and the merges by score as transformers'
    converters make them."""
    data = path.read_bytes()
    unprefixed = data.replace(b"identity\x12\x00\x18\x01", b"identity\x12\x00\x18\x00")
    assert unprefixed != data
    sp = sentencepiece.SentencePieceProcessor(model_proto=unprefixed)
    pieces = [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
    vocab = {p: i for i, p in enumerate(pieces)}
    return sp, vocab, generate_merges(vocab, [(p, sp.get_score(i)) for p, i in vocab.items()])


def save(folder, tokenizer, config, change=None):
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        saved = json.loads((Path(temporary) / "tokenizer.json").read_text())
    if change:
        change(saved)
    write(folder / "tokenizer.json", saved)
    write(folder / "tokenizer_config.json", config, indent=2)


def as_mistral(saved):
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": LOW_LINE}
    saved["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": LOW_LINE}, replace]}
    saved["pre_tokenizer"] = None
    saved["model"]["unk_token"] = "<unk>"


def by_sentencepiece(sp, vocab, text):
    """The class's rules for spaces and special tokens, the library's for merging."""
    ids, begin = [], 0
    for part in re.split("(<unk>|<s>|</s>)", text):
        if part in SPECIAL:
            ids.append(vocab[part])
        elif part:
            marked = part.replace(" ", LOW_LINE)
            ids += sp.encode(LOW_LINE + marked if begin == 0 and marked[0] != LOW_LINE else marked)
        begin += len(part)
    return ids


def put(g, name, encode, decode, texts, size):
    ids = [encode(s) for s in texts]
    put_ragged(g, f"{name}/ids", f"{name}/begin", ids, np.int16)
    back = [decode(i) for i in ids]
    changed = [i for i, (a, b) in enumerate(zip(texts, back)) if a != b]
    g.put(f"{name}/changed", torch.tensor(changed, dtype=torch.int32))
    put_ragged(g, f"{name}/text", f"{name}/text_begin", [back[i].encode() for i in changed], np.uint8)
    put_random_decodes(g, name, decode, range(size))
    return ids


def main():
    for name in ("spm_json", "spm_mistral"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    train(OUT / "spm_model/tokenizer.model")
    sp, vocab, merges = read(OUT / "spm_model/tokenizer.model")
    made = LlamaTokenizer(vocab=vocab, merges=merges)
    save(OUT / "spm_json", made, CONFIG)
    save(OUT / "spm_mistral", made, CONFIG | {"legacy": True}, as_mistral)
    write(OUT / "spm_mistral/config.json", {"model_type": "mistral"})

    g = Golden("tokenizer_spm")
    g.metadata |= {"sentencepiece": sentencepiece.__version__, "transformers": transformers.__version__}
    common = common_strings()
    more = [s for s in spm_strings(list(vocab)) if s not in set(common)]
    put_strings(g, more)
    half, rest = [text_of(s) for s in common[::2]], [text_of(s) for s in more]
    whole = [text_of(s) for s in common] + rest

    def compare_with_library(name, sp, vocab, texts, ids):
        differ = [s for s, i in zip(texts, ids) if "\0" not in s and by_sentencepiece(sp, vocab, s) != i]
        print(f"{name}: sentencepiece differs on {len(differ)} of {len(texts)} strings")
        assert not differ, differ[:5]

    own = LlamaTokenizer.from_pretrained(OUT / "spm_json")
    plain = lambda t: lambda s: t.encode(s, add_special_tokens=False)
    ids = put(g, "own", plain(own), own.decode, half + rest, len(vocab))
    assert ids == [made.encode(s, add_special_tokens=False) for s in half + rest]
    compare_with_library("own", sp, vocab, half + rest, ids)

    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), made, CONFIG | {"legacy": True})
        legacy = LlamaTokenizer.from_pretrained(folder)
    put(g, "legacy", plain(legacy), legacy.decode, rest, len(vocab))

    mistral = transformers.AutoTokenizer.from_pretrained(OUT / "spm_mistral")
    file = Tokenizer.from_file(str(OUT / "spm_mistral/tokenizer.json"))
    ids = put(g, "mistral", plain(mistral), mistral.decode, rest, len(vocab))
    assert ids == [file.encode(s, add_special_tokens=False).ids for s in rest]

    sp, vocab, merges = read(SHARED / "llama_tokenizer.model")
    llama = LlamaTokenizer(vocab=vocab, merges=merges)
    ids = put(g, "llama", plain(llama), llama.decode, whole, len(vocab))
    compare_with_library("llama", sp, vocab, whole, ids)
    try:
        import google.protobuf  # noqa: F401
    except ImportError:
        print("llama: no protobuf here, so the class is not run on a bare tokenizer.model")
    else:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(SHARED / "llama_tokenizer.model", f"{folder}/tokenizer.model")
            bare = LlamaTokenizer.from_pretrained(folder)
        differ = [s for s, i in zip(whole, ids) if bare.encode(s, add_special_tokens=False) != i]
        print(f"llama: the class on a bare tokenizer.model differs on {len(differ)} of {len(whole)} strings")
        assert all(re.search("[ ▁]{2}", s) for s in differ)
    g.save()
    print(f"{len(half + rest)} strings; {len(whole)} with Llama's own vocabulary")


if __name__ == "__main__":
    sys.exit(main())

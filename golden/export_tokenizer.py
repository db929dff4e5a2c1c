"""Expected ids of the byte-level BPE, from transformers' CodeGenTokenizer and the tokenizers library.

golden/data/tokenizer/own/       a vocabulary of our own with 600 pieces and Phi's 38 added tokens,
                                 as upstream saves it: tokenizer.json, merges as pairs
golden/data/tokenizer/own_text/  the same, merges as "left right"
golden/data/tokenizer/own_older/ the same as vocab.json, merges.txt, added_tokens.json, ...
golden/data/tokenizer/odd/       added tokens with single_word, lstrip, rstrip, in both stages;
                                 add_prefix_space, ignore_merges; a vocabulary with a hole
golden/data/tokenizer.safetensors
    bytes, begin        the strings (tokenizer_strings.py), end to end; string i is begin[i] .. begin[i+1]
    text, text_begin    those that are not UTF-8 as Python reads them, in order of their numbers
    broken              (int32) their numbers
    <v>/ids, <v>/begin  the ids for v = own, odd and phi (GPT-2's vocabulary and Phi's added tokens);
                        ids are below 65536 and stored as 16 bits
    odd/text, odd/text_begin         what upstream decodes odd's ids to
    <v>/random, <v>/random_text, <v>/random_begin   64 x 12 random ids and what upstream decodes
    classes/first, classes/class     the classes of all code points, as runs
"""

import json
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import regex
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CodeGenTokenizer

from common import DATA, HERE, Golden
from tokenizer_strings import CODE, SENTENCES, captions, strings

OUT = DATA / "tokenizer"
SHARED = HERE.parent.parent / "shared" / "vocab"
END = "<|endoftext|>"
RUNS = [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]  # Phi's, in the order of their ids
transformers.logging.set_verbosity_error()


def write(path, value, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, **how) + "\n", encoding="utf-8")


# ---- vocabularies of our own ------------------------------------------------------------------------


def train():
    """vocab and merges of 599 pieces; as in GPT-2 the end of text is the last one."""
    text = "\n".join(captions(random.Random("training"), 300) + SENTENCES[:12] + CODE * 3)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([text], trainers.BpeTrainer(vocab_size=599, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    model = json.loads(t.to_str())["model"]
    assert len(model["vocab"]) == 599
    return model["vocab"] | {END: 599}, [tuple(m) for m in model["merges"]]


CONFIG = {"add_prefix_space": False, "bos_token": END, "eos_token": END, "unk_token": END,
          "clean_up_tokenization_spaces": True, "model_max_length": 2048, "tokenizer_class": "CodeGenTokenizer"}


def write_older(path, vocab, merges):
    write(path / "vocab.json", vocab)
    write(path / "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    write(path / "added_tokens.json", {s: len(vocab) + i for i, s in enumerate(RUNS)})
    write(path / "tokenizer_config.json", CONFIG, indent=2)
    write(path / "special_tokens_map.json", {k: END for k in ("bos_token", "eos_token", "unk_token")}, indent=2)


def write_own(vocab, merges):
    write_older(OUT / "own_older", vocab, merges)
    t = CodeGenTokenizer.from_pretrained(OUT / "own_older")
    t.save_pretrained(OUT / "own")
    saved = json.loads((OUT / "own/tokenizer.json").read_text())
    assert isinstance(saved["model"]["merges"][0], list)
    saved["model"]["merges"] = [" ".join(m) for m in saved["model"]["merges"]]
    write(OUT / "own_text/tokenizer.json", saved)
    write(OUT / "own_text/tokenizer_config.json", CONFIG, indent=2)
    write(OUT / "own/tokenizer.json", json.loads((OUT / "own/tokenizer.json").read_text()))  # without the white space


def write_odd(vocab, merges):
    """With the end of text at 1000: upstream tolerates a hole, and gives added tokens the ids from
    the number of pieces (600) on."""
    vocab = {k: 1000 if v == 599 else v for k, v in vocab.items()}
    t = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    add = lambda s, *flags: t.add_tokens([AddedToken(s, normalized="n" in flags, **{f: True for f in flags if f != "n"})])
    t.add_special_tokens([END])
    for s, *flags in (
        ("  ",), ("   ", "n"), ("\t", "rstrip"), ("<l>", "lstrip"), ("<r>", "rstrip"), ("<lr>", "lstrip", "rstrip"), ("<l>x",),
        ("cat", "single_word"), ("red", "single_word", "lstrip", "n"), ("circle", "n"), ("le", "n"), ("é", "n"), ("Ġa",), (" . ", "n"),
        ("日本", "single_word"), ("\u00a0", "lstrip"), ("ab", "n"), ("b",),
    ):
        add(s, *flags)
    write(OUT / "odd/tokenizer.json", json.loads(Tokenizer.from_str(t.to_str()).to_str()))  # ids as a reader gives them
    write(OUT / "odd/special_tokens_map.json", {"bos_token": {"content": END, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}})


def odd_strings():
    r = random.Random("odd strings")
    bits = ["  ", "   ", " ", " ", "\t", "\n", "<l>", "<r>", "<lr>", "<l>x", "cat", "red", "circle", "le", "é", "Ġa", " . ", "日本", "\u00a0", "a", "b", "ab", "_", "-", "1", END,
            "\u0301", "\u200d", "ⓐ", "Ⅷ", "🄰", "²", "A", "x", ".", "\U00010d40", "\u0897"]
    return ["".join(r.choice(bits) for _ in range(r.randrange(1, 14))).encode() for _ in range(600)]


# ---- the same rules once more, in Python ---------------------------------------------------------------


class OpenAI:
    """openai/gpt-2's src/encoder.py (words by the regex package, merges by the lowest rank, all
    occurrences at once): what the slow tokenizers of transformers 4 were, which 5 does not have."""

    pattern = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")

    def __init__(self, vocab, merges):
        printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [b for b in range(256) if b not in printable]
        self.letter = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
        self.vocab, self.rank = vocab, {m: i for i, m in enumerate(merges)}

    def word(self, word):
        word = tuple(self.letter[b] for b in word.encode())
        while len(word) > 1:
            pair = min(zip(word, word[1:]), key=lambda p: self.rank.get(p, 1 << 30))
            if pair not in self.rank:
                break
            out, i = [], 0
            while i < len(word):
                joined = word[i : i + 2] == pair
                out.append(word[i] + word[i + 1] if joined else word[i])
                i += 2 if joined else 1
            word = tuple(out)
        return [self.vocab[piece] for piece in word]

    def __call__(self, text):
        return [i for w in self.pattern.findall(text) for i in self.word(w)]


def close_calls(vocab, merges, wanted):
    """Texts that come out differently if two merges of neighbouring ranks change places: the
    strings that people write hardly ever depend on it."""
    slow, swapped = OpenAI(vocab, merges), OpenAI(vocab, merges)
    swapped.rank = {m: i ^ 1 for m, i in slow.rank.items()}
    byte = {letter: b for b, letter in slow.letter.items()}
    found = []
    for i, (a, b) in enumerate(merges):
        c, d = merges[i ^ 1] if i ^ 1 < len(merges) else ("", "")
        for letters in {a + b + d if b == c else None, c + d + b if d == a else None} - {None}:
            raw = bytes(byte[x] for x in letters)
            text = raw.decode("utf-8", "replace")
            if text.encode() == raw and slow(text) != swapped(text):
                found.append(raw)
    return list(dict.fromkeys(found))[:wanted]


def compare_with_openai(name, tokenizer, vocab, merges, texts):
    plain = [s for s in texts if not re.search(r"  |\t\t", s) and END not in s and len(s) < 5000]
    slow = OpenAI(vocab, merges)
    differ = [s for s in plain if slow(s) != tokenizer.encode(s, add_special_tokens=False)]
    print(f"{name}: openai's encoder.py differs on {len(differ)} of {len(plain)} strings without added tokens")
    assert not differ, differ[:5]


# ---- storing --------------------------------------------------------------------------------------------


def put_ragged(g, name, begin, rows, dtype):
    """Rows end to end, and where each begins."""
    flat = np.concatenate([np.frombuffer(x, np.uint8) if isinstance(x, bytes) else np.asarray(x, np.int64) for x in rows])
    if dtype == np.int16:
        assert flat.max() < 65536
        flat = flat.astype(np.uint16).view(np.int16)
    g.put(name, torch.from_numpy(flat.astype(dtype)))
    g.put(begin, torch.from_numpy(np.cumsum([0] + [len(x) for x in rows]).astype(np.int32)))


def put_random_decodes(g, name, decode, ids):
    r = random.Random(name)
    rows = [[r.choice(ids) for _ in range(12)] for _ in range(64)]
    g.put(f"{name}/random", torch.tensor(rows, dtype=torch.int32))
    put_ragged(g, f"{name}/random_text", f"{name}/random_begin", [decode(row).encode() for row in rows], np.uint8)


def put_classes(g):
    """L, N, S (\\s) or O as upstream's pattern has it; + 4 if \\w; 8 if upstream knows no such character."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    one = lambda s: len(words.pre_tokenize_str(s)) == 1
    t = Tokenizer(models.BPE({"no character": 0}, []))
    t.add_tokens([AddedToken("<w>", single_word=True, normalized=False)])
    unassigned = pre_tokenizers.Split(Regex(r"\p{Cn}"), "removed")
    first, kind = [], []
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        s = chr(c)
        k = 0 if one("a" + s) else 1 if one("1" + s) else 3 if one("!" + s) else 2
        k += 4 * (not t.encode("<w>" + s).ids)
        if k == 3 and not unassigned.pre_tokenize_str(s):
            k = 8
        if not kind or kind[-1] != k:
            first.append(c)
            kind.append(k)
    g.put("classes/first", torch.tensor(first, dtype=torch.int32))
    g.put("classes/class", torch.tensor(kind, dtype=torch.uint8))


def main():
    for name in ("own", "own_older", "own_text", "odd"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    vocab, merges = train()
    write_own(vocab, merges)
    write_odd(vocab, merges)

    g = Golden("tokenizer")
    g.metadata |= {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}
    gpt2 = json.loads((SHARED / "gpt2_encoder.json").read_text())
    lines = (SHARED / "gpt2_vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    gpt2_merges = [tuple(line.split(" ")) for line in lines]
    calls = close_calls(vocab, merges, 200) + close_calls(gpt2, gpt2_merges, 200)
    print(f"{len(calls)} strings that depend on neighbouring ranks")
    raw = list(dict.fromkeys(strings() + odd_strings() + calls))
    texts = [s.decode("utf-8", "replace") for s in raw]
    broken = [i for i, (s, t) in enumerate(zip(raw, texts)) if t.encode() != s]
    put_ragged(g, "bytes", "begin", raw, np.uint8)
    g.put("broken", torch.tensor(broken, dtype=torch.int32))
    put_ragged(g, "text", "text_begin", [texts[i].encode() for i in broken], np.uint8)

    # our own vocabulary: the transformers class on every layout, and the tokenizers library
    own = CodeGenTokenizer.from_pretrained(OUT / "own")
    ids = [own.encode(s, add_special_tokens=False) for s in texts]
    fast = Tokenizer.from_file(str(OUT / "own/tokenizer.json"))
    older = CodeGenTokenizer.from_pretrained(OUT / "own_older")
    text = CodeGenTokenizer.from_pretrained(OUT / "own_text")
    for s, i in zip(texts, ids):
        assert i == fast.encode(s).ids == older.encode(s) == text.encode(s), s
        assert own.decode(i) == s, s
    compare_with_openai("own", own, vocab, merges, texts)
    put_ragged(g, "own/ids", "own/begin", ids, np.int16)
    put_random_decodes(g, "own", own.decode, range(len(own)))

    odd = Tokenizer.from_file(str(OUT / "odd/tokenizer.json"))
    ids = [odd.encode(s).ids for s in texts]
    put_ragged(g, "odd/ids", "odd/begin", ids, np.int16)
    put_ragged(g, "odd/text", "odd/text_begin", [odd.decode(i, skip_special_tokens=False).encode() for i in ids], np.uint8)
    put_random_decodes(g, "odd", lambda i: odd.decode(i, skip_special_tokens=False), sorted(odd.get_vocab().values()))

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_older(folder, gpt2, gpt2_merges)
        phi = CodeGenTokenizer.from_pretrained(folder)
        assert phi.bos_token_id == 50256 and len(phi) == 50295
        ids = [phi.encode(s, add_special_tokens=False) for s in texts]
        for s, i in zip(texts, ids):
            assert phi.decode(i) == s, s
        compare_with_openai("phi", phi, gpt2, gpt2_merges, texts)
        put_ragged(g, "phi/ids", "phi/begin", ids, np.int16)
        put_random_decodes(g, "phi", phi.decode, range(len(phi)))

    put_classes(g)
    g.save()
    print(f"{len(raw)} strings, {len(broken)} of them not UTF-8")


if __name__ == "__main__":
    sys.exit(main())

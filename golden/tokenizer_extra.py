"""More strings, for the kinds of tokenizer that have edges of their own, and reading those of
tokenizer.safetensors (export_tokenizer.py), which every kind is compared on."""

import random
import unicodedata

import numpy as np
from safetensors import safe_open

from common import DATA
from tokenizer_strings import EMOJI, MARKS, SENTENCES

LOW_LINE = "▁"


def common_strings():
    with safe_open(DATA / "tokenizer.safetensors", "np") as f:
        data, begin = f.get_tensor("bytes").tobytes(), f.get_tensor("begin")
    return [data[a:b] for a, b in zip(begin, begin[1:])]


def spm_strings(pieces):
    """Low lines, spaces, byte pieces and special tokens as text; neighbours whose order of merging counts."""
    r = random.Random("sentencepiece strings")
    bits = [LOW_LINE, LOW_LINE * 2, " ", "  ", "   ", "\n", "\t", "<s>", "</s>", "<unk>", "<s", "s>", "<0x41>", "<0x0A>", "<0xff>", "<pad>", "<sep>", "a", "b", "red", "é", "e\u0301",
            "1", "23", "好", "𐍈", "\U0001fae0", "\u00a0", "\u3000", "."] + EMOJI[:8]
    out = [LOW_LINE, LOW_LINE * 2, "a" + LOW_LINE + "b", " " + LOW_LINE, LOW_LINE + " ", "<s>", "<s>a", "<s> a", "a<s>", "a <s> b", "<s><s>", "<s>  a", " <s>a", "</s>\n", "<unk>a", "<0x41>", "<0x0A>", "a<0x41>b"]
    out += ["".join(r.choice(bits) for _ in range(r.randrange(1, 12))) for _ in range(400)]
    whole = [p for p in pieces if p[0] != "<"]
    out += ["".join(r.choice(whole) for _ in range(r.randrange(2, 9))) for _ in range(300)]
    for _ in range(200):  # pieces that overlap: the end of one begins the next
        s = r.choice(whole)
        for _ in range(r.randrange(1, 6)):
            s += r.choice([p for p in whole if p[0] == s[-1]] or whole)[1:]
        out.append(s)
    return [s.encode() for s in dict.fromkeys(out)]


def clip_strings(pieces):
    """Case, accents composed and not, marks in any order, apostrophes, special tokens in upper case."""
    r = random.Random("clip strings")
    out = [s.upper() for s in SENTENCES] + [s.title() for s in SENTENCES] + [unicodedata.normalize("NFD", s) for s in SENTENCES]
    cased = [chr(c) for c in range(0x80, 0x110000) if not 0xD800 <= c < 0xE000 and chr(c).lower() != chr(c)]
    out += ["x".join(cased[i : i + 25]) for i in range(0, len(cased), 25)]
    composed = [chr(c) for c in range(0xC0, 0x110000) if not 0xAC10 <= c < 0xE000 and unicodedata.decomposition(chr(c))]
    out += [unicodedata.normalize("NFD", " ".join(composed[i : i + 25])) for i in range(0, len(composed), 25)]
    out += ["İ", "İİ", "ΑΣ", "ΑΣ.", "ΟΔΟΣ ΣΟΦΟΣ", "ẞ", "ß", "ſ's", "'S", "'RE it'LL", "I'M", "K", "Å", "ǅ", "<|STARTOFTEXT|>", "<|EndOfText|>a", "<|startoftext|>!!", "!<|endoftext|>!", "<|endoftext|>'s",
            "a<|endoftext|>b", " <|startoftext|> ", "a</w>", "</w>", "a</w>b </w>", "Photo</w> of", "1234", "x2y", "½¼", "\u1e9b\u0323", "\u0344", "\u0f73\u0f71", "\U00011935\U00011930", "\U000105d2\u0307"]
    marks = [chr(c) for c in (0x300, 0x301, 0x308, 0x323, 0x327, 0x334, 0x345, 0x5B0, 0x64B, 0x93C, 0x94D, 0x8CA, 0x1ABF, 0x1E08F, 0x11070, 0x1133B, 0x16FF0)]
    out += ["".join(r.choice("aeiouAEIOUnÅßσΣ가") + "".join(r.choice(marks) for _ in range(r.randrange(4))) for _ in range(r.randrange(1, 8))) for _ in range(300)]
    bits = ["<|startoftext|>", "<|endoftext|>", "<|", "|>", "'s", "'LL", "'", " ", "  ", "\u00a0", "\u0085", "\x1c", "\n", "a", "B", "É", "E\u0301", "7", "!", "</w>", "photo", "Σ"] + MARKS + EMOJI[:4]
    out += ["".join(r.choice(bits) for _ in range(r.randrange(1, 12))) for _ in range(300)]
    out += ["".join(r.choice(pieces).removesuffix("</w>") for _ in range(r.randrange(2, 9))) for _ in range(300)]
    return [s.encode() for s in dict.fromkeys(out)]


def as_rows(g, name, begin, rows, dtype):
    """Rows end to end, and where each begins."""
    from export_tokenizer import put_ragged

    put_ragged(g, name, begin, rows, dtype)


def put_strings(g, raw):
    as_rows(g, "bytes", "begin", raw, np.uint8)


def text_of(raw):
    return raw.decode("utf-8", "replace")

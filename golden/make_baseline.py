"""golden/micro_clip: what the plain Stable Diffusion baseline needs beside micro's U-Net and VAE.

    text_encoder/   a CLIPTextModel as wide as micro's cross-attentions, in f16
    tokenizer/      CLIP's kind: 256 letters, 256 letters that end a word, 150 merges, two special tokens;
                    tokenizer.json as CLIPTokenizer saves it, and the same as vocab.json + merges.txt

Frozen like micro, and under 300 kB. Every parameter is random and none at its default.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from common import HERE, generator
from pack import bytes_of, captions, randomize

MERGES = 150
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def train_merges():
    upstream = CLIPTokenizer(vocab={BEGIN: 0, END: 1}, merges=[]).backend_tokenizer
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    t.normalizer, t.pre_tokenizer = upstream.normalizer, upstream.pre_tokenizer
    t.train_from_iterator(captions(), trainers.BpeTrainer(
        vocab_size=1000, end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return [tuple(m) for m in json.loads(t.to_str())["model"]["merges"]][:MERGES]


def make_tokenizer():
    """Ids in the order of openai/CLIP's simple_tokenizer.py."""
    merges = train_merges()
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]
    pieces = letters + [x + "</w>" for x in letters] + ["".join(m) for m in merges] + [BEGIN, END]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    assert len(vocab) == len(pieces) == 512 + MERGES + 2
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def main(directory):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(directory / "tokenizer")
    tokenizer.backend_tokenizer.model.save(str(directory / "tokenizer"))  # vocab.json, merges.txt

    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=28, intermediate_size=60, num_hidden_layers=3,
        num_attention_heads=4, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    randomize(clip, generator("micro", "text_encoder"))
    clip.half().save_pretrained(directory / "text_encoder")
    assert bytes_of(directory) < 3e5, bytes_of(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else HERE / "micro_clip")

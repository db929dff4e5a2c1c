"""CLIP's tokenizer for the baseline: byte pieces and the merges of the small world's picture captions."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from captions import rich_caption
from stage import batch_random
from world import draw_scene

MERGES = 220
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def train(taken):
    upstream = CLIPTokenizer(vocab={BEGIN: 0, END: 1}, merges=[]).backend_tokenizer
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    t.normalizer, t.pre_tokenizer = upstream.normalizer, upstream.pre_tokenizer
    random = batch_random("clip tokenizer")
    texts = [rich_caption(random, *draw_scene(random))[0] for _ in range(5000)]
    t.train_from_iterator((text for text in texts if text not in taken), trainers.BpeTrainer(
        vocab_size=1000, end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    merges = [tuple(m) for m in json.loads(t.to_str())["model"]["merges"]][:MERGES]
    # ids in the order of openai/CLIP's simple_tokenizer.py
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]
    pieces = letters + [x + "</w>" for x in letters] + ["".join(m) for m in merges] + [BEGIN, END]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, model_max_length=77)

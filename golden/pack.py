"""How golden/micro is made: seeded random parameters, none at its default, saved
by the upstream classes in Hugging Face layout."""

import json
import os
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm

from common import draw, sort_header
from llmdiff_torch import DEFAULTS, Adapter, Layer


SIZES = "small large tiny huge"
COLOURS = "red blue green yellow orange purple white black pink brown gray cyan"
SHAPES = "circle square triangle star ring cross diamond heart moon arrow"
RELATIONS = "to the left of,to the right of,above,below,inside,next to,behind,in front of"
NOUNS = """apple banana bear bicycle bird boat book bottle bridge building bus butterfly cake camera
candle car castle cat chair child church city clock cloud coat computer couple cow cup dog door
dragon dress elephant eye face field fire fish flag flower forest fox garden girl glass guitar hand
hat hill horse house island kitchen ladder lake lamp leaf letter light lion man map market mirror
mountain mouse night ocean owl painting paper park person phone piano plate portrait rabbit rain
river road robot roof room rose sea shadow sheep ship shirt shoe sky snow spoon street summer sun
table temple tiger tower train tree umbrella valley village wall water whale window winter woman
wood world"""
MANNERS = """abstract ancient autumn beautiful bright broken clean colorful cold cute dark detailed
digital dramatic empty golden happy high hot minimal modern narrow old quiet realistic round sad
sharp silver simple smooth soft striped sunny tall transparent warm wet wide wooden young"""


def captions():
    """Simple scenes, in a fixed order."""
    things = [f"{colour} {shape}" for colour in COLOURS.split() for shape in SHAPES.split()]
    things += [f"{size} {thing}" for size in SIZES.split() for thing in things]
    things += [f"{manner} {noun}" for manner in MANNERS.split() for noun in NOUNS.split()]
    for i, thing in enumerate(things):
        other = things[(7 * i + 3) % len(things)]
        yield f"A picture of {article(thing)}."
        yield f"two {thing}s, three {other}s and a photograph of {article(other)}"
        for relation in RELATIONS.split(","):
            yield f"{article(thing)} {relation} {article(other)} on {article(other)} background"


def article(thing):
    return ("an " if thing[0] in "aeiou" else "a ") + thing


def train_tokenizer(pieces, max_length):
    """Byte-level BPE of so many pieces, then <|endoftext|> and Phi's 38 runs of spaces and tabs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(captions(), trainer)
    assert tokenizer.get_vocab_size() == pieces
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    runs = [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]
    tokenizer.add_tokens([AddedToken(run, normalized=True) for run in runs])
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end,
                                   unk_token=end, model_max_length=max_length,
                                   clean_up_tokenization_spaces=False)


@torch.no_grad()
def randomize(model, gen, gain=None):
    """Linear and convolution weights of std 1/sqrt(fan_in), norm weights 0.5 .. 1.5, nothing zero.
    gain: {path of a module: factor on its weight}."""
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fan_in = module.weight[0].numel()
            std = (gain or {}).get(path, 1.0) / fan_in**0.5
            module.weight.copy_(draw(gen, *module.weight.shape, std=std))
            if module.bias is not None:
                module.bias.copy_(draw(gen, *module.bias.shape, std=0.2))
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            module.weight.copy_(uniform(gen, 0.5, 1.5, *module.weight.shape))
            module.bias.copy_(draw(gen, *module.bias.shape, std=0.2))
        elif isinstance(module, (LlamaRMSNorm, MistralRMSNorm)):
            module.weight.copy_(uniform(gen, 0.5, 1.5, *module.weight.shape))
        elif isinstance(module, nn.Embedding):
            module.weight.copy_(draw(gen, *module.weight.shape))
        elif isinstance(module, Layer):
            module.a1.copy_(uniform(gen, 0.5, 1.2, 1))
            module.b1.copy_(uniform(gen, -0.4, 0.4, 1))
            module.a2.copy_(uniform(gen, 0.4, 0.9, 1))
            module.b2.copy_(uniform(gen, -0.4, 0.4, 1))
        elif isinstance(module, Adapter):
            module.g.copy_(uniform(gen, 0.4, 1.6, *module.g.shape))
            module.eta.copy_(uniform(gen, -4.0, -1.0, *module.eta.shape))
        else:
            assert not list(module.parameters(recurse=False)), (path, type(module))


def uniform(gen, low, high, *shape):
    return torch.rand(*shape, generator=gen, dtype=torch.float64) * (high - low) + low


def random_adapter(directory, gen, llm, unet, **settings):
    settings = DEFAULTS | settings
    adapter = Adapter(settings, llm.config, unet)
    randomize(adapter, gen)
    adapter.save(directory, settings, llm.config, unet)
    sort_header(directory / "adapter.safetensors")


def save_pack(directory, tokenizer, llm, unet, vae, scheduler):
    assert len(tokenizer) <= llm.config.vocab_size
    directory = Path(directory)
    tokenizer.save_pretrained(directory / "llm")
    llm.save_pretrained(directory / "llm")
    unet.save_pretrained(directory / "unet")
    vae.save_pretrained(directory / "vae")
    scheduler.save_pretrained(directory / "scheduler")
    index = {"_class_name": "LLMDiffPipeline", "_llmdiff_version": "0.1",
             "llm": ["transformers", type(llm).__name__],
             **{part: ["diffusers", type(model).__name__]
                for part, model in (("unet", unet), ("vae", vae), ("scheduler", scheduler))},
             "adapter": ["llmdiff", "LLMDiffAdapter"]}
    (directory / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def bytes_of(directory):
    return sum(f.stat().st_size for f in Path(directory).rglob("*") if f.is_file())

"""Stage 1: the LLM of the small world, on text alone, and its tokenizer.

    python golden/world/train_llm.py OUT [--family phi|llama] [--width 128] [--blocks 6] [--steps N]

Next-token prediction over corpus.py's documents; each begins with <|endoftext|>, as every prompt does.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

from corpus import document
from make_suite import suite_prompts
from stage import Ema, Stage, batch_random, rate

LONGEST = 256
BATCH = 48


def train_tokenizer(taken):
    """Byte-level BPE of 512 pieces: every word of the world is one or two of them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    random = batch_random("tokenizer")
    trainer = trainers.BpeTrainer(vocab_size=511, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False)
    tokenizer.train_from_iterator((document(random, taken) for _ in range(20000)), trainer)
    end = "<|endoftext|>"
    tokenizer.add_special_tokens([AddedToken(end, special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end,
                                   model_max_length=LONGEST, clean_up_tokenization_spaces=False)


def build(family, width, blocks, vocabulary, end):
    common = dict(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=blocks, num_attention_heads=4,
                  attn_implementation="eager", max_position_embeddings=LONGEST, tie_word_embeddings=True, bos_token_id=end, eos_token_id=end)
    if family == "phi":
        return PhiForCausalLM(PhiConfig(intermediate_size=4 * width, **common))
    return LlamaForCausalLM(LlamaConfig(intermediate_size=8 * width // 3 // 16 * 16, **common))


def batches(random, tokenizer, taken, end):
    """Ids [BATCH, N], -1 after a document's end; documents of like length together."""
    texts = sorted((document(random, taken) for _ in range(4 * BATCH)), key=len)
    for k in random.sample(range(4), 4):
        rows = [[end, *ids, end] for ids in tokenizer(texts[k * BATCH:(k + 1) * BATCH])["input_ids"]]
        longest = -(-max(map(len, rows)) // 16) * 16  # few shapes: each costs a compilation
        yield torch.tensor([row + [-1] * (longest - len(row)) for row in rows])


def main():
    args = argparse.ArgumentParser()
    args.add_argument("out", type=Path)
    args.add_argument("--family", default="phi")
    args.add_argument("--width", type=int, default=128)
    args.add_argument("--blocks", type=int, default=6)
    args.add_argument("--steps", type=int, default=1600, help="of four batches each")
    args.add_argument("--peak", type=float, default=2e-3)
    args.add_argument("--seed", type=int, default=2)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(args.seed)
    taken = suite_prompts()
    tokenizer = train_tokenizer(taken)
    end = tokenizer.eos_token_id
    llm = build(args.family, args.width, args.blocks, len(tokenizer), end)
    decayed = [p for p in llm.parameters() if p.ndim == 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05},
                                   {"params": [p for p in llm.parameters() if p.ndim != 2], "weight_decay": 0}],
                                  lr=0, betas=(0.9, 0.98), fused=True)
    ema = Ema(llm.parameters(), 0.998)

    def save():
        return {"llm": llm.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow}

    def load(state):
        llm.load_state_dict(state["llm"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow = state["ema"]

    stage = Stage(args.out, args.steps, save, load)
    for step in stage:
        losses = []
        for ids in batches(batch_random(args.seed, step), tokenizer, taken, end):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = llm(ids.clamp(min=0), use_cache=False).logits
            loss = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(llm.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate(step, args.steps, args.peak, warmup=100)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(4 * step)
            losses.append(loss.item())
        stage.shown = f"loss {sum(losses) / 4:.4f}"

    ema.apply()
    llm.half().save_pretrained(args.out / "llm")
    tokenizer.save_pretrained(args.out / "llm")


if __name__ == "__main__":
    main()

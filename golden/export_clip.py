"""CLIP's text encoder, which drives Stable Diffusion without an LLM: small transformers CLIPTextModels.

golden/data/clip_<model>/           config.json and weights as upstream saves them; `old` as Stable
                                    Diffusion 1.5's own directory has them: names under text_model., a
                                    buffer position_ids, config keys of transformers 4.22
golden/data/clip_text.safetensors   runs, each <model>/<run>/...:

    ids                              [n] int64  input: begin token, words, end token, padding
    text/embeddings                  [n, D]
    text/encoder.layers.{l}.self_attn, .mlp, and the layer itself: what each adds, and the sum
    text/final_layer_norm            [n, D]     what the U-Net reads

Runs: `padded` as long as max_position_embeddings, filled up with the pad token; `short` without
padding; `skip_{k}` with clip_skip k, of which only text/final_layer_norm is stored:
final_layer_norm(hidden_states[-(k + 1)]), as StableDiffusionPipeline.encode_prompt has it; k as large
as the number of layers takes the embeddings. There is no attention mask, so padding is read too.

Every parameter moves the output: main() zeroes one after the other. The exception is k_proj.bias: it
adds the same number to all scores of a query, which softmax does not see; it is zeroed to show that.

Fields of CLIPTextConfig (transformers 5.23.0) with the class's defaults:

  varied here   vocab_size 49408, hidden_size 512, intermediate_size 2048, num_hidden_layers 12,
                num_attention_heads 8, max_position_embeddings 77, hidden_act "quick_gelu",
                layer_norm_eps 1e-5
  no effect     attention_dropout, initializer_range, initializer_factor, projection_dim (another
                class's), pad_token_id, bos_token_id, eos_token_id (the pooled output's)
"""

import dataclasses
import json
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from common import DATA, Golden, generator, relative_error
from f64 import lift, precision
from modeldir import randomise, recording, store, widen


def model(about, dtype, pad, old=False, **config):
    return SimpleNamespace(about=about, dtype=dtype, pad=pad, old=old, config=config)


# pad: the pad token; Stable Diffusion 1.x pads with the end token, 2.x with token 0
MODELS = {
    "sd": model("Stable Diffusion 1.x in miniature", torch.float16, pad=49, vocab_size=50,
                hidden_size=12, intermediate_size=28, num_hidden_layers=3, num_attention_heads=3,
                bos_token_id=48, eos_token_id=49),
    "open_clip": model("Stable Diffusion 2.x in miniature: OpenCLIP's gelu", torch.bfloat16, pad=0,
                       vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                       num_attention_heads=2, hidden_act="gelu", bos_token_id=38, eos_token_id=39),
    "eps": model("another layer_norm_eps, one head, other positions", torch.float32, pad=7,
                 vocab_size=30, hidden_size=10, intermediate_size=33, num_hidden_layers=2,
                 num_attention_heads=1, max_position_embeddings=19, layer_norm_eps=0.05,
                 bos_token_id=28, eos_token_id=29),
    "upstream": model("the config of upstream's own tests (hf-internal-testing)", torch.float16, pad=1,
                      vocab_size=1000, hidden_size=32, intermediate_size=37, num_hidden_layers=5,
                      num_attention_heads=4, layer_norm_eps=1e-5, bos_token_id=998, eos_token_id=999),
    "old": model("names and config.json as Stable Diffusion 1.5's own", torch.float32, pad=33, old=True,
                 vocab_size=34, hidden_size=8, intermediate_size=32, num_hidden_layers=2,
                 num_attention_heads=4, bos_token_id=0, eos_token_id=2),
}
# What Stable Diffusion 1.5's text_encoder/config.json has beyond the fields above.
PUBLISHED = {"_name_or_path": "openai/clip-vit-large-patch14", "dropout": 0.0,
             "torch_dtype": "float32", "transformers_version": "4.22.0.dev0"}


def age(path):
    """Makes the directory one that transformers 4.22 wrote."""
    file = path / "model.safetensors"
    state = {"text_model." + name: x for name, x in load_file(file).items()}
    positions = state["text_model.embeddings.position_embedding.weight"].shape[0]
    state["text_model.embeddings.position_ids"] = torch.arange(positions)[None]
    save_file(state, file, metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    del config["dtype"]
    text = json.dumps(config | PUBLISHED, indent=2, sort_keys=True)
    (path / "config.json").write_text(text + "\n")


def reload(path, state):
    loaded = CLIPTextModel.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(v.float(), loaded.state_dict()[k]) for k, v in state.items())
    return loaded.eval().requires_grad_(False)


def observed(clip):
    names = ["embeddings"]
    for l in range(clip.config.num_hidden_layers):
        at = f"encoder.layers.{l}"
        names += [f"{at}.self_attn", f"{at}.mlp", at]
    return names


def encode(clip, ids, skip):
    """As StableDiffusionPipeline.encode_prompt does it; skip None is its clip_skip=None."""
    if skip is None:
        return clip(ids[None], attention_mask=None)[0][0]
    hidden = clip(ids[None], attention_mask=None, output_hidden_states=True)[-1]
    return clip.final_layer_norm(hidden[-(skip + 1)])[0]


def some_ids(m, words, n, gen):
    """Begin token, random words, end token, padding up to n: the last two of the vocabulary stand
    for begin and end, whatever the config says."""
    begin, end = m.config["vocab_size"] - 2, m.config["vocab_size"] - 1
    ids = torch.randint(begin, (words,), generator=gen)
    return torch.cat([torch.tensor([begin]), ids, torch.tensor([end] + [m.pad] * (n - words - 2))])


def run(name, clips, words, n, skip):
    m = MODELS[name]

    def go(seed, dtype):
        clip = clips[dtype]
        ids = some_ids(m, words, n, generator("clip", name, words, n, seed))
        outputs = {}
        with torch.no_grad(), precision(dtype):
            if skip is None:
                with recording(clip, observed(clip)) as seen:
                    last = encode(clip, ids, skip)
                outputs = {"text/" + k: v for k, v in seen.items()}
            else:
                last = encode(clip, ids, skip)
                assert skip > 0 or torch.equal(last, encode(clip, ids, None))
        outputs["text/final_layer_norm"] = last
        return {"ids": ids}, outputs

    return go


def every_parameter_counts(name, clip):
    n = clip.config.max_position_embeddings
    ids = some_ids(MODELS[name], n // 2, n, generator("clip", name, "zeroed"))
    with torch.no_grad(), precision(torch.float64):
        truth = encode(clip, ids, None)
        for path, p in clip.named_parameters():
            kept = p.clone()
            p.zero_()
            moved = relative_error(encode(clip, ids, None), truth)
            p.copy_(kept)
            unseen = path.endswith("k_proj.bias")
            assert (moved < 1e-14) if unseen else (moved > 1e-3), (name, path, moved)


def main():
    told = __doc__.split("Fields of")[1].replace(",", " ").split()
    inherited = {f.name for f in dataclasses.fields(CLIPTextConfig.__base__)}
    own = {f.name for f in dataclasses.fields(CLIPTextConfig)} - inherited
    assert own and not [f for f in own if f not in told], own
    golden = Golden("clip_text")
    for name, m in MODELS.items():
        path = DATA / f"clip_{name}"
        made = randomise(CLIPTextModel(CLIPTextConfig(**m.config)), "clip", name)
        state = store(made, path, m.dtype)
        if m.old:
            age(path)
        loaded = reload(path, state)
        clips = {torch.float32: loaded, torch.float64: lift(widen(loaded, state, torch.float64))}
        every_parameter_counts(name, clips[torch.float64])
        n, layers = m.config.get("max_position_embeddings", 77), m.config["num_hidden_layers"]
        golden.metadata["about:" + name] = m.about
        golden.case(f"{name}/padded/", run(name, clips, 7, n, None))
        golden.case(f"{name}/short/", run(name, clips, 3, 5, None))
        for k in range(layers + 1):
            golden.case(f"{name}/skip_{k}/", run(name, clips, 5, 12, k))
    golden.save()


if __name__ == "__main__":
    main()

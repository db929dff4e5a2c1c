"""llama and mistral blocks of every kind of config, and Algorithm 1 over one of them.

golden/data/<model>/                config.json and model.safetensors of 2 blocks
golden/data/llm_llama.safetensors:

    <case>/ids                      [N] int64                            input
    <case>/llm/...                                                       as in a trace
    <run>/ids, <run>/alg1/eps.{t}, g, eta                                input
    <run>/alg1/c.{t}, ...                                                as in a trace

CASES says each case's model and length ("model:<case>" in the metadata). Runs alg1_quiet and
alg1_noise are Algorithm 1 on llama_grouped, with g and eta as an adapter has them. config.json is
what transformers 5 writes, where PUBLISHED doesn't rewrite it into what earlier versions wrote.

The yardstick is over prompts of the same length, and seeds of the noise.
"""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from common import DATA, Golden, generator, sort_header
from export_llm import blocks, some_ids
from f64 import precision
from hooks import Trace
from llmdiff_torch import DEFAULTS, algorithm1, load_llm
from pack import randomize, uniform

VOCABULARY = 48
BASE = dict(vocab_size=VOCABULARY, num_hidden_layers=2, hidden_size=32, intermediate_size=40,
            num_attention_heads=4, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)


UPSTREAM = dict(vocab_size=99, intermediate_size=37, num_key_value_heads=2, hidden_act="gelu",
                max_position_embeddings=512)


def rope(kind, theta, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta} | more}


MODELS = {  # class, config, stored type
    "llama_plain": ("llama", dict(rms_norm_eps=1e-3), torch.float32),
    "llama_grouped": ("llama", dict(num_attention_heads=8, num_key_value_heads=2,
                                    **rope("default", 700.0)), torch.bfloat16),
    "llama_head_dim": ("llama", dict(num_key_value_heads=2, head_dim=12), torch.float16),
    "llama_biases": ("llama", dict(num_key_value_heads=2, attention_bias=True, mlp_bias=True),
                     torch.float16),
    "llama_tied": ("llama", dict(tie_word_embeddings=True, rms_norm_eps=1e-5), torch.float16),
    "llama_bare": ("llama", dict(num_key_value_heads=1), torch.bfloat16),
    "llama_linear": ("llama", rope("linear", 500.0, factor=4.0), torch.float16),
    "llama_linear_4.31": ("llama", rope("linear", 10000.0, factor=2.5), torch.float16),
    "llama_dynamic": ("llama", dict(max_position_embeddings=20) | rope("dynamic", 300.0, factor=2.0),
                      torch.bfloat16),
    "mistral_window": ("mistral", dict(num_attention_heads=8, num_key_value_heads=2,
                                       sliding_window=5), torch.bfloat16),
    "mistral_none": ("mistral", dict(num_key_value_heads=2, sliding_window=None, head_dim=16,
                                     **rope("default", 1e6)), torch.float16),
    # The configs of transformers' own tests (CausalLMModelTester, hf-internal-testing).
    "llama_upstream": ("llama", UPSTREAM, torch.float16),
    "mistral_upstream": ("mistral", UPSTREAM, torch.float16),
}
CASES = {  # model, number of tokens
    "plain": ("llama_plain", 12),
    "tokens1": ("llama_plain", 1),
    "tokens2": ("llama_plain", 2),
    "tokens100": ("llama_plain", 100),
    "grouped": ("llama_grouped", 12),
    "head_dim": ("llama_head_dim", 12),
    "biases": ("llama_biases", 12),
    "tied": ("llama_tied", 12),
    "bare": ("llama_bare", 12),
    "linear": ("llama_linear", 30),
    "linear_old": ("llama_linear_4.31", 30),
    "dynamic": ("llama_dynamic", 20),  # all the positions that it was trained for
    "window": ("mistral_window", 17),
    "window_wide": ("mistral_window", 4),
    "window_exact": ("mistral_window", 5),
    "window_tiles": ("mistral_window", 100),
    "no_window": ("mistral_none", 17),
    "llama_upstream": ("llama_upstream", 7),
    "mistral_upstream": ("mistral_upstream", 7),
}


def old_keys(config):
    """config.json without rope_parameters, num_key_value_heads and head_dim, as Llama-2's is."""
    parameters = config.pop("rope_parameters")
    for key in ("head_dim", "attention_bias", "mlp_bias"):
        config.pop(key, None)
    return parameters, config | {"torch_dtype": config.pop("dtype"), "pretraining_tp": 1}


def from_4_31(config):
    """The first to know rope_scaling: {"type", "factor"}; theta was always 10000."""
    parameters, config = old_keys(config)
    assert parameters["rope_theta"] == 10000.0
    del config["num_key_value_heads"]
    scaling = {"type": parameters["rope_type"], "factor": parameters["factor"]}
    return config | {"rope_scaling": scaling, "max_sequence_length": 4096}


def from_4_45(config):
    """rope_theta at the top level, and the kind under both of its names."""
    parameters, config = old_keys(config)
    theta, kind = parameters.pop("rope_theta"), parameters["rope_type"]
    return config | {"rope_theta": theta, "rope_scaling": parameters | {"type": kind}}


def mistral_7b(config):
    """As Mistral-7B-v0.2's: rope_theta at the top, a window that is null, no rope_scaling."""
    parameters = config.pop("rope_parameters")
    return config | {"rope_theta": parameters["rope_theta"], "torch_dtype": config.pop("dtype")}


PUBLISHED = {"llama_linear_4.31": from_4_31, "llama_dynamic": from_4_45, "mistral_none": mistral_7b}


def store_model(name, kind, config, stored):
    directory = DATA / name
    make, settings = {"llama": (LlamaForCausalLM, LlamaConfig),
                      "mistral": (MistralForCausalLM, MistralConfig)}[kind]
    llm = make(settings(**BASE | config))
    randomize(llm, generator("llama", name))
    saved = llm.model if name == "llama_bare" else llm  # LlamaModel: names without "model."
    saved.to(stored).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    if name == "llama_linear_4.31":
        add_rotary_tables(directory / "model.safetensors", llm)
    if name in PUBLISHED:
        path = directory / "config.json"
        path.write_text(json.dumps(PUBLISHED[name](json.loads(path.read_text())), indent=2) + "\n")
    for dtype in (torch.float64, torch.float32):
        model = load_llm(directory, dtype)
        rope = {k: v for k, v in model.config.rope_parameters.items() if k != "type"}
        assert rope == llm.config.rope_parameters, name
        assert model.config.num_key_value_heads == llm.config.num_key_value_heads, name
        assert getattr(model.config, "sliding_window", None) == getattr(
            llm.config, "sliding_window", None), name
        state = llm.model.state_dict()
        assert all(torch.equal(x, state[k].to(dtype)) for k, x in model.model.state_dict().items())


def add_rotary_tables(path, llm):
    """A buffer per layer, as in the checkpoints of Llama-2 and Vicuna."""
    tensors = load_file(path)
    for l in range(len(llm.model.layers)):
        tensors[f"model.layers.{l}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, path, metadata={"format": "pt"})
    sort_header(path)


def block_cases(golden):
    for name, (model, length) in CASES.items():
        models = {dtype: load_llm(DATA / model, dtype) for dtype in (torch.float64, torch.float32)}

        def run(seed, dtype):
            ids = some_ids(1, length, VOCABULARY, "llama", name, seed)
            with torch.no_grad(), precision(dtype):
                return {"ids": torch.tensor(ids)}, blocks(models[dtype], ids)

        golden.case(name + "/", run)
        golden.metadata["model:" + name] = model


def algorithm1_cases(golden):
    models = {dtype: load_llm(DATA / "llama_grouped", dtype)
              for dtype in (torch.float64, torch.float32)}
    gen = generator("llama", "adapter")
    g, eta = (uniform(gen, low, high, 2).float() for low, high in ((0.4, 1.6), (-4.0, -1.0)))
    golden.put("g", g)
    golden.put("eta", eta)
    for name, noisy in (("alg1_quiet", False), ("alg1_noise", True)):

        def run(seed, dtype):
            ids = some_ids(1, 9, VOCABULARY, "llama", name, seed)
            gen = generator("langevin", "llama", name, seed)
            noise = {f"alg1/eps.{t}": torch.randn(9, 32, generator=gen) for t in (2, 1)}
            trace = Trace()
            with torch.no_grad(), precision(dtype):
                algorithm1(models[dtype], ids, g.to(dtype), eta.to(dtype),
                           DEFAULTS | {"noise": noisy}, noise, trace)
            kept = {k: v for k, v in trace.items() if k not in noise}
            return {"ids": torch.tensor(ids)} | (noise if noisy else {}), kept

        golden.case(name + "/", run)


def main():
    for name, model in MODELS.items():
        store_model(name, *model)
    golden = Golden("llm_llama")
    block_cases(golden)
    algorithm1_cases(golden)
    golden.inputs_in_traces()
    golden.save()


if __name__ == "__main__":
    main()

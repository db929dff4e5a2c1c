"""Algorithm 1 on micro's LLM, and phi blocks of other configs.

golden/data/llm_alg1.safetensors, a run of every choice of the spec's section 3:

    <run>/ids                     [N] int64                              input
    <run>/alg1/eps.{t}, and alg1/c.3 for init "normal"  [N, D]           input, where there is noise
    <run>/llm/..., alg1/..., adapter/phi_c                               as in a trace
    <run>/adapter/c               what phi reads, where `normalize` changes it

Runs tokens1, tokens2, tokens100 and plain hold every activation, the others alg1/c.{t} and after.
The metadata have each run's settings ("settings:<run>") where they differ from the pack's.

golden/data/phi_<case>/           config.json and model.safetensors of a PhiForCausalLM of 2 blocks
golden/data/llm_phi.safetensors   <case>/ids and <case>/llm/...

The yardstick is over prompts of the same length, and seeds of the noise.
"""

import json

import torch
from transformers import PhiConfig, PhiForCausalLM

from common import DATA, HERE, Golden, generator
from f64 import precision
from hooks import Trace
from llmdiff_torch import encode, load_llm, load_pack, prompt_ids, scores
from pack import randomize

MICRO = HERE / "micro"
PROMPT = "a red circle"
QUIET = {"noise": False}
RUNS = {  # number of tokens (None: the prompt's), settings
    "tokens1": (1, {}),
    "tokens2": (2, {}),
    "tokens100": (100, {}),
    "plain": (None, QUIET),
    "noise": (None, {}),
    "difference": (None, QUIET | {"score": "difference"}),
    "no_word": (None, QUIET | {"word_score": False}),
    "no_word_difference": (None, QUIET | {"word_score": False, "score": "difference"}),
    "zeros": (None, QUIET | {"init": "zeros"}),
    "normal": (None, {"init": "normal"}),
    "rms": (None, QUIET | {"normalize": "rms"}),
    "rms_zeros": (None, QUIET | {"normalize": "rms", "init": "zeros"}),
    "one_block": (None, {"blocks": [1, 1]}),
    "last_blocks_difference": (None, {"blocks": [1, 2], "score": "difference"}),
    "g_scale": (None, QUIET | {"g_scale": 0.7}),
    "h_scale": (None, {"h_scale": 2.5}),
}
WHOLE = ("tokens1", "tokens2", "tokens100", "plain")


def some_ids(first, length, vocab, *key):
    ids = torch.randint(vocab, (length - 1,), generator=generator(*key))
    return [first] + ids.tolist()


def walker(name, length, settings):
    """run(seed, dtype, force) -> (inputs, every activation) from ids to phi(c)."""
    packs = {}

    def run(seed, dtype, force=None):
        if dtype not in packs:
            packs[dtype] = load_pack(MICRO, dtype, overrides=settings)
        pack = packs[dtype]
        ids = prompt_ids(pack, PROMPT)[""]
        if seed > 0 or length:
            ids = some_ids(ids[0], length or len(ids), 512, "alg1", name, seed)
        noise = langevin_noise(pack, len(ids), name, seed)
        trace = Trace(force)
        trace("ids", torch.tensor(ids))
        with torch.no_grad(), precision(dtype):
            encode(pack, ids, noise, trace)
        return {"ids": torch.tensor(ids)} | noise, trace

    return run


def algorithm1_runs():
    golden = Golden("llm_alg1")
    for name, (length, settings) in RUNS.items():
        go = walker(name, length, settings)

        def run(seed, dtype):
            inputs, trace = go(seed, dtype)
            return inputs, {k: v for k, v in trace.items() if k not in inputs
                            and (name in WHOLE or not k.startswith("llm/"))}

        golden.case(name + "/", run)
        golden.metadata["settings:" + name] = json.dumps(settings)
    golden.metadata["prompt"] = PROMPT
    golden.inputs_in_traces()
    golden.save()


def langevin_noise(pack, N, *key):
    D, T = pack.llm.config.hidden_size, pack.llm.config.num_hidden_layers
    settings, gen, noise = pack.settings, generator("langevin", *key), {}
    if settings["init"] == "normal":
        noise[f"alg1/c.{T}"] = torch.randn(N, D, generator=gen)
    if settings["noise"]:
        for t in range(T, 0, -1):
            noise[f"alg1/eps.{t}"] = torch.randn(N, D, generator=gen)
    return noise


PHI = dict(vocab_size=64, hidden_size=48, num_hidden_layers=2, max_position_embeddings=32)
CASES = {  # config, stored type
    "gqa": (dict(intermediate_size=80, num_attention_heads=6, num_key_value_heads=2), torch.float16),
    "qk_layernorm": (dict(intermediate_size=72, num_attention_heads=3, num_key_value_heads=3,
                          qk_layernorm=True, layer_norm_eps=1e-3,
                          rope_parameters={"rope_type": "default", "rope_theta": 700.0,
                                           "partial_rotary_factor": 0.25}), torch.bfloat16),
    "full_rotary_gelu": (dict(intermediate_size=64, num_attention_heads=4, hidden_act="gelu",
                              rope_parameters={"rope_type": "default", "rope_theta": 500.0,
                                               "partial_rotary_factor": 1.0}), torch.float16),
    # The config of transformers' own tests (PhiModelTester, hf-internal-testing).
    "upstream": (dict(vocab_size=99, hidden_size=32, intermediate_size=37, num_attention_heads=4,
                      hidden_act="gelu", max_position_embeddings=512, bos_token_id=98,
                      eos_token_id=98), torch.float16),
}


def blocks(llm, ids):
    """x.{t} and both scores of every block, as in a trace."""
    x, s_sentence, s_word = scores(llm, ids)
    T = len(s_word)
    outputs = {f"llm/x.{T - l}": y for l, y in enumerate(x)}
    outputs |= {f"llm/s_sentence.{T - l}": y for l, y in enumerate(s_sentence)}
    outputs |= {f"llm/s_word.{T - l}": y for l, y in enumerate(s_word)}
    return outputs


def as_published(path):
    """config.json as Phi-1.5's is: rotary numbers at the top, no bos_token_id worth reading."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "bos_token_id": None,
               "eos_token_id": None, "partial_rotary_factor": rope["partial_rotary_factor"],
               "torch_dtype": config.pop("dtype")}
    del config["num_key_value_heads"]
    path.write_text(json.dumps(config, indent=2) + "\n")


def phi_cases():
    golden = Golden("llm_phi")
    for name, (config, stored) in CASES.items():
        directory = DATA / f"phi_{name}"
        llm = PhiForCausalLM(PhiConfig(**(PHI | config)))
        randomize(llm, generator("phi", name))
        llm.to(stored).save_pretrained(directory)
        (directory / "generation_config.json").unlink()
        if name == "full_rotary_gelu":
            as_published(directory / "config.json")
        models = {dtype: load_llm(directory, dtype) for dtype in (torch.float64, torch.float32)}
        assert models[torch.float32].config.rope_parameters == llm.config.rope_parameters

        def run(seed, dtype):
            ids = some_ids(seed, 12, 64, "phi", name, seed)
            with torch.no_grad(), precision(dtype):
                return {"ids": torch.tensor(ids)}, blocks(models[dtype], ids)

        golden.case(name + "/", run)
    golden.inputs_in_traces()
    golden.save()


if __name__ == "__main__":
    algorithm1_runs()
    phi_cases()

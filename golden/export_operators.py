"""Every operator of tensor/: upstream's function in float64, and torch float32's error beside it.

golden/data/ops_<file>.safetensors, cases named <case>/{x, w, b, ..., y} as tests/test_tensor_golden.c
calls them; that file has the table of each case's parameters (stride, eps, heads, ...). Maps are
[B, H, W, C] here as in the C code, whatever upstream takes. ops_rng holds torch.randn's own float32
stream, which is compared to 2e-6 and not as a truth.

Two upstream functions have float32 islands and are written out in float64 here: LlamaRMSNorm and the
rotary table (transformers casts both to float32). The rotation itself is upstream's rotate_half.
"""


import torch
import torch.nn.functional as F
from transformers.activations import NewGELUActivation, QuickGELUActivation
from transformers.masking_utils import sliding_window_causal_mask_function
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from common import Golden, draw, generator

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}


def weight(gen, *shape, std=1.0, mean=0.0, stored="f32"):
    """A parameter in its stored type; float64 ones use all their digits."""
    return (torch.randn(*shape, generator=gen, dtype=torch.float64) * std + mean).to(DTYPES[stored])


def norm_weight(gen, n, stored="f32"):
    return (torch.rand(n, generator=gen, dtype=torch.float64) + 0.5).to(DTYPES[stored])


def last(x):
    return x.permute(0, 2, 3, 1).contiguous()


def first(x):
    return x.permute(0, 3, 1, 2)


def case(golden, name, run):
    """run(gen, to) -> (inputs, {output: tensor}); to() widens (or rounds) to the run's precision."""
    golden.case(name + "/", seeded(golden.name, name, run))


def seeded(file, name, run):
    return lambda seed, dtype: run(generator(file, name, seed), lambda t: t.to(dtype))


# Each room yields its cases one by one: (name, the C operator, its parameters, run). A case's run
# belongs to its turn of the loop: use it before the next.


def linear():
    for name, M, N, K, bias, stored in [
        ("one", 1, 1, 1, True, "f32"),
        ("row", 1, 33, 17, True, "f32"),
        ("plain", 5, 7, 3, False, "f32"),
        ("tokens", 10, 150, 24, True, "f32"),
        ("tiles", 300, 270, 9, True, "f32"),
        ("long", 7, 5, 500, True, "f32"),
        ("f16", 10, 70, 33, True, "f16"),
        ("bf16", 10, 70, 33, True, "bf16"),
        ("f64", 10, 70, 33, True, "f64"),
        ("f16_tiles", 290, 65, 11, False, "f16"),
    ]:

        def run(gen, to):
            x = draw(gen, M, K)
            w = weight(gen, N, K, std=K**-0.5, stored=stored)
            i = {"x": x, "w": w}
            if bias:
                i["b"] = weight(gen, N, stored=stored)
            return i, {"y": F.linear(to(x), to(w), to(i["b"]) if bias else None)}

        yield name, "linear", {}, run


def conv2d():
    for name, B, H, W, C, N, k, stride, pad, bias, stored in [
        # pad: top, left, bottom, right
        ("3x3", 1, 7, 9, 5, 6, 3, 1, (1, 1, 1, 1), True, "f32"),
        ("batch", 3, 5, 4, 3, 4, 3, 1, (1, 1, 1, 1), True, "f32"),
        ("stride2", 2, 7, 8, 4, 5, 3, 2, (1, 1, 1, 1), True, "f32"),
        ("vae_down", 1, 8, 6, 4, 5, 3, 2, (0, 0, 1, 1), True, "f32"),
        ("1x1", 2, 5, 3, 9, 7, 1, 1, (0, 0, 0, 0), True, "f32"),
        ("1x1_stride2", 1, 5, 4, 3, 4, 1, 2, (0, 0, 0, 0), True, "f32"),
        ("1x1_padded", 1, 3, 2, 3, 4, 1, 1, (1, 0, 2, 1), True, "f32"),
        ("pixel", 1, 1, 1, 6, 4, 3, 1, (1, 1, 1, 1), True, "f32"),
        ("valid", 1, 5, 6, 3, 4, 3, 1, (0, 0, 0, 0), False, "f32"),
        ("one_channel", 1, 4, 4, 1, 1, 3, 1, (1, 1, 1, 1), True, "f32"),
        ("strips", 1, 35, 33, 3, 4, 3, 1, (1, 1, 1, 1), True, "f32"),
        ("f16", 1, 5, 6, 4, 8, 3, 1, (1, 1, 1, 1), True, "f16"),
        ("bf16", 1, 5, 6, 4, 8, 3, 1, (1, 1, 1, 1), True, "bf16"),
        ("f64", 1, 5, 6, 4, 8, 3, 1, (1, 1, 1, 1), True, "f64"),
        ("7x7", 1, 9, 8, 2, 3, 7, 3, (2, 3, 1, 0), True, "f32"),
    ]:

        def run(gen, to):
            x = draw(gen, B, H, W, C)
            w = weight(gen, N, C, k, k, std=(C * k * k) ** -0.5, stored=stored)
            i = {"x": x, "w": w}
            if bias:
                i["b"] = weight(gen, N, stored=stored)
            top, left, bottom, right = pad
            padded = F.pad(first(to(x)), (left, right, top, bottom))
            y = F.conv2d(padded, to(w), to(i["b"]) if bias else None, stride=stride)
            return i, {"y": last(y)}

        yield name, "conv2d", {"stride": stride, "padding": pad}, run


def norm():
    for name, shape, eps, mean, std, bias, stored in [
        ("layer/tokens", (7, 40), 1e-5, 0, 1, True, "f32"),
        ("layer/map", (2, 3, 5, 33), 1e-5, 0.5, 3, True, "f32"),
        ("layer/offset", (3, 64), 1e-5, 100, 1, True, "f32"),
        ("layer/tiny", (3, 64), 1e-5, 0, 1e-3, True, "f32"),
        ("layer/no_bias", (3, 31), 1e-6, 0, 1, False, "f32"),
        ("layer/f16", (4, 48), 1e-5, 0, 1, True, "f16"),
        ("layer/bf16", (4, 48), 1e-5, 0, 1, True, "bf16"),
    ]:

        def run(gen, to):
            x, w = draw(gen, *shape, mean=mean, std=std), norm_weight(gen, shape[-1], stored)
            i = {"x": x, "w": w}
            if bias:
                i["b"] = weight(gen, shape[-1], stored=stored)
            b = to(i["b"]) if bias else None
            return i, {"y": F.layer_norm(to(x), shape[-1:], to(w), b, eps)}

        yield name, "layer_norm", {"eps": eps}, run

    for name, shape, groups, eps, mean, std, bias, stored in [
        ("group/map", (1, 5, 7, 32), 8, 1e-5, 0, 1, True, "f32"),
        ("group/batch", (3, 4, 4, 24), 6, 1e-6, 0.5, 2, True, "f32"),
        ("group/strips", (2, 9, 15, 12), 4, 1e-6, 0, 1, True, "f32"),
        ("group/rows", (2, 11, 16), 4, 1e-5, 0, 1, True, "f32"),
        ("group/offset", (1, 6, 6, 16), 4, 1e-5, 5, 1, True, "f32"),
        ("group/pixel", (2, 1, 1, 32), 8, 1e-5, 0, 1, True, "f32"),
        ("group/one", (1, 4, 5, 6), 1, 1e-5, 0, 1, True, "f32"),
        ("group/instance", (1, 4, 5, 6), 6, 1e-5, 0, 1, False, "f32"),
        ("group/f16", (1, 4, 5, 32), 32, 1e-2, 0, 1, True, "f16"),
    ]:

        def run(gen, to):
            C = shape[-1]
            x, w = draw(gen, *shape, mean=mean, std=std), norm_weight(gen, C, stored)
            i = {"x": x, "w": w}
            if bias:
                i["b"] = weight(gen, C, stored=stored)
            b = to(i["b"]) if bias else None
            return i, {"y": F.group_norm(to(x).movedim(-1, 1), groups, to(w), b, eps).movedim(1, -1)}

        yield name, "group_norm", {"groups": groups, "eps": eps}, run

    for name, shape, eps, std, stored in [
        ("rms/tokens", (7, 40), 1e-6, 1, "f32"),
        ("rms/large", (3, 33), 1e-5, 300, "f32"),
        ("rms/tiny", (3, 33), 1e-5, 1e-3, "f32"),
        ("rms/f16", (4, 48), 1e-5, 1, "f16"),
        ("rms/bf16", (4, 48), 1e-5, 1, "bf16"),
    ]:

        def run(gen, to):
            x, w = draw(gen, *shape, std=std), norm_weight(gen, shape[-1], stored)
            wide = to(x) if to(x).itemsize >= 4 else to(x).float()  # LlamaRMSNorm's own float32
            h = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
            return {"x": x, "w": w}, {"y": to(w) * h.to(to(x).dtype)}

        yield name, "rms_norm", {"eps": eps}, run


def activation():
    functions = {
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_new": NewGELUActivation(),
        "quick_gelu": QuickGELUActivation(),
        "geglu": lambda x: (lambda value, gate: value * F.gelu(gate))(*x.chunk(2, dim=-1)),
        "softmax": lambda x: torch.softmax(x, -1),
    }
    for op, f in functions.items():
        for name, shape, std in [
            ("small", (3, 10), 1),
            ("map", (2, 3, 5, 8), 3),
            ("large", (4, 50), 60),
            ("huge", (2, 8), 1e4),
            ("tiny", (3, 10), 1e-3),
            ("wide", (3, 402), 2),
        ]:

            def run(gen, to):
                x = draw(gen, *shape, std=std)
                return {"x": x}, {"y": f(to(x))}

            yield f"{op}/{name}", op, {}, run


def attention():
    for name, Lq, keys, heads, kv_heads, d, mask, std in [
        ("self", 10, (10, 10), 2, 2, 8, "none", 1),
        ("cross", 9, (5, 100), 3, 3, 5, "none", 1),
        ("one_key", 6, (1, 2), 2, 2, 4, "none", 1),
        ("one_query", 1, (77,), 4, 4, 8, "none", 1),
        ("tiles", 150, (130,), 2, 2, 6, "none", 1),
        ("sharp", 10, (20,), 2, 2, 8, "none", 8),
        ("one_head", 12, (12,), 1, 1, 40, "none", 1),
        ("causal", 10, (10,), 2, 2, 8, "causal", 1),
        ("causal_tiles", 131, (131,), 2, 2, 6, "causal", 1),
        ("causal_one", 1, (1,), 2, 2, 8, "causal", 1),
        ("causal_grouped", 11, (11, 11), 6, 2, 4, "causal", 1),
        ("grouped", 7, (9,), 4, 1, 6, "none", 1),
        ("own", 10, (10, 10), 2, 2, 8, "own", 1),
        ("own_grouped", 9, (9,), 6, 3, 4, "own", 1),
        ("window", 17, (17,), 4, 2, 6, 5, 1),  # a number: causal with that sliding window
        ("window_tiles", 150, (150,), 2, 1, 6, 70, 1),
        ("window_wide", 10, (10, 10), 2, 2, 8, 12, 1),
    ]:

        def run(gen, to):
            B = len(keys)
            i = {"q": draw(gen, B, Lq, heads * d, std=std)}
            rows = []
            for b, Lk in enumerate(keys):
                k, v = draw(gen, Lk, kv_heads * d, std=std), draw(gen, Lk, kv_heads * d)
                i[f"k.{b}"], i[f"v.{b}"] = k, v

                def split(t, n):
                    return to(t).view(-1, n, d).transpose(0, 1)

                repeats = heads // kv_heads
                key = split(k, kv_heads).repeat_interleave(repeats, 0)
                value = split(v, kv_heads).repeat_interleave(repeats, 0)
                visible = torch.eye(Lq, dtype=torch.bool) if mask == "own" else None
                if isinstance(mask, int):
                    sees = sliding_window_causal_mask_function(mask)
                    visible = sees(0, 0, torch.arange(Lq)[:, None], torch.arange(Lq))
                y = F.scaled_dot_product_attention(
                    split(i["q"][b], heads), key, value, attn_mask=visible, is_causal=mask == "causal"
                )
                rows.append(y.transpose(0, 1).reshape(Lq, heads * d))
            return i, {"y": torch.stack(rows)}

        parameters = {"heads": heads, "kv_heads": kv_heads}
        if isinstance(mask, int):
            yield name, "attention_window", parameters | {"window": mask}, run
        else:
            yield name, "attention", parameters | {"mask": mask}, run


def rope():
    for name, L, heads, d, rotary, theta, position, *factor in [
        ("llama", 7, 2, 8, 8, 10000.0, 0),
        ("phi", 5, 3, 12, 6, 10000.0, 0),
        ("offset", 4, 2, 10, 4, 10000.0, 13),
        ("long", 3, 2, 16, 16, 10000.0, 2045),
        ("theta", 9, 1, 8, 8, 1e6, 100),
        ("row", 1, 1, 2, 2, 10000.0, 0),
        ("pairs", 70, 2, 4, 2, 10000.0, 1),
        ("linear", 9, 2, 8, 8, 10000.0, 5, 2.5),
        ("linear_long", 3, 2, 16, 16, 10000.0, 4090, 4.0),
    ]:

        def run(gen, to):
            x = draw(gen, L, heads * d)
            w = theta ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary)
            w /= factor[0] if factor else 1
            angle = torch.arange(position, position + L, dtype=torch.float64)[:, None] * w
            angle = torch.cat([angle, angle], -1)
            q = to(x).view(1, L, heads, d).transpose(1, 2)
            turned, _ = apply_rotary_pos_emb(
                q[..., :rotary], q[..., :rotary], to(angle.cos())[None], to(angle.sin())[None]
            )
            y = torch.cat([turned, q[..., rotary:]], -1)
            return {"x": x}, {"y": y.transpose(1, 2).reshape(L, heads * d)}

        yield name, "rope", {"heads": heads, "rotary": rotary, "theta": theta, "position": position,
                             "factor": factor[0] if factor else 1.0}, run


def embedding():
    for stored in DTYPES:

        def run(gen, to):
            w = weight(gen, 23, 9, stored=stored)
            ids = torch.tensor([22, 0, 5, 5, 17, 1])
            return {"ids": ids, "w": w}, {"y": F.embedding(ids, to(w))}

        yield stored, "embedding", {}, run


def resample():
    for name, B, H, W, C, height, width in [
        ("double", 2, 3, 5, 4, 6, 10),
        ("pixel", 1, 1, 1, 3, 2, 2),
        ("odd", 1, 3, 4, 2, 5, 7),
        ("same", 1, 4, 3, 2, 4, 3),
        ("down", 1, 7, 8, 2, 3, 4),
    ]:

        def run(gen, to):
            x = draw(gen, B, H, W, C)
            y = F.interpolate(first(to(x)), size=(height, width), mode="nearest")
            return {"x": x}, {"y": last(y)}

        yield name, "resize_nearest", {"height": height, "width": width}, run


def elementwise():
    def two(gen, to):
        a, b = draw(gen, 3, 7, 5), draw(gen, 3, 7, 5, std=2)
        x, y = to(a), to(b)
        outputs = {
            "add": x + y,
            "sub": x - y,
            "scale": x * 0.3,
            "axpby": 0.3 * x + -1.7 * y,
            "mul": x * y,
            "channels_last": x.permute(1, 2, 0).contiguous(),
            "channels_first": x.permute(2, 0, 1).contiguous(),
        }
        return {"a": a, "b": b}, outputs

    yield "two", None, {"scale": {"s": 0.3}, "axpby": {"s": 0.3, "t": -1.7}}, two
    for name, shape in [("map", (2, 3, 5, 6)), ("rows", (3, 4, 5)), ("vectors", (2, 5))]:

        def run(gen, to):
            x, v = draw(gen, *shape), draw(gen, shape[0], shape[-1])
            middle = (1,) * (len(shape) - 2)
            return {"x": x, "v": v}, {"y": to(x) + to(v).view(shape[0], *middle, shape[-1])}

        yield f"add_channels/{name}", "add_channels", {}, run
    for name, shape, Ca, Cb in [("map", (2, 3, 5), 4, 3), ("rows", (6,), 1, 8)]:

        def run(gen, to):
            a, b = draw(gen, *shape, Ca), draw(gen, *shape, Cb)
            return {"a": a, "b": b}, {"y": torch.cat([to(a), to(b)], -1)}

        yield f"concat/{name}", "concat", {}, run


def rng():
    """For every seed: single calls of several sizes, and a sequence of calls of one generator."""
    g = Golden("ops_rng")
    for seed in [0, 42, 2**32 + 5, 2**63 - 1]:
        for n in [1, 2, 7, 15, 16, 17, 31, 100, 4 * 64 * 64]:
            gen = torch.Generator().manual_seed(seed)
            g.put(f"{seed}/{n}", torch.randn(n, generator=gen))
        gen = torch.Generator().manual_seed(seed)
        sizes = torch.tensor([3, 16, 1, 5, 17, 1000, 2, 2, 33, 15, 700, 1])
        calls = [torch.randn(n, generator=gen) for n in sizes.tolist()]
        g.put(f"{seed}/calls", torch.cat(calls))
        if seed == 0:
            g.put("sizes", sizes)
        gen = torch.Generator().manual_seed(seed)
        g.put(f"{seed}/uniform", torch.empty(50).uniform_(-0.3, 0.7, generator=gen))
    g.save()


ROOMS = [linear, conv2d, norm, activation, attention, rope, embedding, resample, elementwise]


if __name__ == "__main__":
    for room in ROOMS:
        g = Golden("ops_" + room.__name__)
        for name, _, _, run in room():
            case(g, name, run)
        g.save()
    rng()

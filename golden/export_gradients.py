"""Every operator's gradients: torch autograd through upstream's function, for a random dy.

golden/data/grad_<file>.safetensors, cases named <case>/{x, w, b, ..., dy} (inputs) and <case>/{dx, dw,
db, ...} (the gradient of sum(y * dy) for each), as tests/test_gradients.c calls them; that file has the
table of each case's parameters. Weights in f16 and bf16 are frozen, so they have no gradient here, and
neither has what the case calls frozen. Maps are [B, H, W, C], as in export_operators.py, from which the
two functions with float32 islands (RMSNorm, rotary tables) are taken over in float64.

grad_adamw: torch.optim.AdamW with torch.nn.utils.clip_grad_norm_ for ten steps of given gradients."""

import torch
import torch.nn.functional as F
from transformers.activations import NewGELUActivation, QuickGELUActivation
from transformers.masking_utils import sliding_window_causal_mask_function
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from common import Golden, draw, generator
from export_operators import first, last, norm_weight, weight


def case(golden, name, inputs, f, constants=()):
    """inputs(gen) -> dict of tensors; f(**them, in the run's precision) -> y. Gradients of all floating
    inputs, but for those in half precision and the `constants` (which only aren't stored: torch 2.13's
    group_norm crashes where x needs none and w does)."""

    def run(seed, dtype):
        gen = generator(golden.name, name, seed)
        stored = inputs(gen)
        args, learned = {}, {}
        for key, t in stored.items():
            args[key] = t.to(dtype) if t.is_floating_point() else t
            if t.is_floating_point() and t.element_size() > 2:
                learned[key] = args[key] = args[key].clone().requires_grad_()
        y = f(**{k.replace(".", "_"): v for k, v in args.items()})
        assert y.dtype == dtype
        dy = draw(gen, *y.shape)
        grads = torch.autograd.grad(y, list(learned.values()), dy.to(dtype), allow_unused=True)
        outputs = {
            "d" + k: torch.zeros_like(x) if g is None else g.clone()
            for (k, x), g in zip(learned.items(), grads)
            if k not in constants
        }
        return {**stored, "dy": dy}, outputs

    golden.case(name + "/", run)


def linear():
    g = Golden("grad_linear")
    for name, M, N, K, bias, stored, constants in [
        ("one", 1, 1, 1, True, "f32", ()),
        ("row", 1, 33, 17, True, "f32", ()),
        ("plain", 5, 7, 3, False, "f32", ()),
        ("tokens", 10, 70, 24, True, "f32", ()),
        ("tiles", 20, 17, 150, True, "f32", ("w", "b")),
        ("tall", 290, 5, 9, True, "f32", ()),
        ("wide", 3, 270, 5, True, "f32", ()),
        ("deep", 2, 3, 290, False, "f32", ()),
        ("weight_only", 9, 6, 20, True, "f32", ("x",)),
        ("bias_only", 9, 6, 20, True, "f32", ("x", "w")),
        ("f16", 10, 70, 33, True, "f16", ()),
        ("bf16", 70, 10, 33, True, "bf16", ()),
        ("f64", 10, 30, 13, True, "f64", ()),
        ("f16_tiles", 20, 11, 150, False, "f16", ()),
        ("bf16_tall", 290, 11, 9, False, "bf16", ()),
    ]:

        def inputs(gen):
            i = {"x": draw(gen, M, K), "w": weight(gen, N, K, std=K**-0.5, stored=stored)}
            return {**i, "b": weight(gen, N, stored=stored)} if bias else i

        case(g, name, inputs, lambda x, w, b=None: F.linear(x, w, b), constants)
    g.save()


def conv2d():
    g = Golden("grad_conv2d")
    for name, B, H, W, C, N, k, stride, pad, stored, constants in [
        # pad: top, left, bottom, right
        ("3x3", 1, 7, 9, 5, 6, 3, 1, (1, 1, 1, 1), "f32", ()),
        ("batch", 3, 5, 4, 3, 4, 3, 1, (1, 1, 1, 1), "f32", ()),
        ("stride2", 2, 7, 8, 4, 5, 3, 2, (1, 1, 1, 1), "f32", ()),
        ("vae_down", 1, 8, 6, 4, 5, 3, 2, (0, 0, 1, 1), "f32", ()),
        ("unused", 1, 6, 7, 2, 3, 3, 2, (0, 0, 0, 0), "f32", ()),
        ("1x1", 2, 5, 3, 9, 7, 1, 1, (0, 0, 0, 0), "f32", ()),
        ("1x1_stride2", 1, 5, 4, 3, 4, 1, 2, (0, 0, 0, 0), "f32", ()),
        ("1x1_padded", 1, 3, 2, 3, 4, 1, 1, (1, 0, 2, 1), "f32", ()),
        ("pixel", 1, 1, 1, 6, 4, 3, 1, (1, 1, 1, 1), "f32", ()),
        ("valid", 1, 5, 6, 3, 4, 3, 1, (0, 0, 0, 0), "f32", ()),
        ("strips", 3, 19, 21, 3, 4, 3, 1, (1, 1, 1, 1), "f32", ()),
        ("strips_stride2", 2, 47, 25, 2, 3, 3, 2, (1, 1, 1, 1), "f32", ("w", "b")),
        ("frozen", 1, 6, 5, 4, 3, 3, 1, (1, 1, 1, 1), "f32", ("w", "b")),
        ("weight_only", 1, 6, 5, 4, 3, 3, 1, (1, 1, 1, 1), "f32", ("x",)),
        ("f16", 1, 5, 6, 4, 8, 3, 1, (1, 1, 1, 1), "f16", ()),
        ("bf16", 1, 5, 6, 4, 8, 3, 1, (1, 1, 1, 1), "bf16", ()),
        ("7x7", 1, 9, 8, 2, 3, 7, 3, (2, 3, 1, 0), "f32", ()),
    ]:

        def inputs(gen):
            w = weight(gen, N, C, k, k, std=(C * k * k) ** -0.5, stored=stored)
            return {"x": draw(gen, B, H, W, C), "w": w, "b": weight(gen, N, stored=stored)}

        def f(x, w, b):
            top, left, bottom, right = pad
            return last(F.conv2d(F.pad(first(x), (left, right, top, bottom)), w, b, stride=stride))

        case(g, name, inputs, f, constants)
    g.save()


def norms():
    g = Golden("grad_norm")
    for name, shape, eps, mean, std, bias, stored, constants in [
        ("layer/tokens", (7, 40), 1e-5, 0, 1, True, "f32", ()),
        ("layer/map", (2, 3, 5, 33), 1e-5, 0.5, 3, True, "f32", ()),
        ("layer/strips", (150, 6), 1e-5, 0, 1, True, "f32", ()),
        ("layer/offset", (3, 64), 1e-5, 100, 1, True, "f32", ()),
        ("layer/no_bias", (3, 31), 1e-6, 0, 1, False, "f32", ()),
        ("layer/frozen", (3, 31), 1e-6, 0, 1, True, "f32", ("w", "b")),
        ("layer/weight_only", (3, 31), 1e-6, 0, 1, True, "f32", ("x",)),
        ("layer/f16", (4, 48), 1e-5, 0, 1, True, "f16", ()),
        ("layer/bf16", (4, 48), 1e-5, 0, 1, True, "bf16", ()),
    ]:

        def inputs(gen):
            i = {"x": draw(gen, *shape, mean=mean, std=std)}
            i["w"] = norm_weight(gen, shape[-1], stored)
            return {**i, "b": weight(gen, shape[-1], stored=stored)} if bias else i

        def f(x, w, b=None):
            return F.layer_norm(x, shape[-1:], w, b, eps)

        case(g, name, inputs, f, constants)

    for name, shape, groups, eps, mean, std, stored, constants in [
        ("group/map", (1, 5, 7, 32), 8, 1e-5, 0, 1, "f32", ()),
        ("group/batch", (3, 4, 4, 24), 6, 1e-6, 0.5, 2, "f32", ()),
        ("group/strips", (2, 9, 15, 12), 4, 1e-6, 0, 1, "f32", ()),
        ("group/rows", (2, 11, 16), 4, 1e-5, 0, 1, "f32", ()),
        ("group/offset", (1, 6, 6, 16), 4, 1e-5, 5, 1, "f32", ()),
        ("group/pixel", (2, 1, 1, 32), 8, 1e-5, 0, 1, "f32", ()),
        ("group/one", (1, 4, 5, 6), 1, 1e-5, 0, 1, "f32", ()),
        ("group/frozen", (1, 4, 5, 6), 6, 1e-5, 0, 1, "f32", ("w", "b")),
        ("group/weight_only", (1, 4, 5, 6), 2, 1e-5, 0, 1, "f32", ("x",)),
        ("group/f16", (1, 4, 5, 32), 32, 1e-2, 0, 1, "f16", ()),
    ]:

        def inputs(gen):
            i = {"x": draw(gen, *shape, mean=mean, std=std)}
            return {**i, "w": norm_weight(gen, shape[-1], stored), "b": weight(gen, shape[-1], stored=stored)}

        def f(x, w, b):
            return F.group_norm(x.movedim(-1, 1), groups, w, b, eps).movedim(1, -1)

        case(g, name, inputs, f, constants)

    for name, shape, eps, std, stored in [
        ("rms/tokens", (7, 40), 1e-6, 1, "f32"),
        ("rms/strips", (70, 7), 1e-5, 3, "f32"),
        ("rms/tiny", (3, 33), 1e-5, 1e-3, "f32"),
        ("rms/bf16", (4, 48), 1e-5, 1, "bf16"),
    ]:

        def inputs(gen):
            return {"x": draw(gen, *shape, std=std), "w": norm_weight(gen, shape[-1], stored)}

        def f(x, w):
            return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))

        case(g, name, inputs, f)
    g.save()


def activations():
    g = Golden("grad_activation")
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
            if op == "softmax" and std > 3:
                # one-hot: gradients of 1e-30 in which no float32 is right, torch's neither
                std = 8 if name == "large" else 3
            case(g, f"{op}/{name}", lambda gen: {"x": draw(gen, *shape, std=std)}, lambda x: f(x))
    g.save()


def attention():
    g = Golden("grad_attention")
    for name, Lq, keys, heads, kv_heads, d, mask, std, constants in [
        ("self", 10, (10, 10), 2, 2, 8, "none", 1, ()),
        ("cross", 9, (5, 100), 3, 3, 5, "none", 1, ()),
        ("one_key", 6, (1, 2), 2, 2, 4, "none", 1, ()),
        ("one_query", 1, (77,), 4, 4, 8, "none", 1, ()),
        ("tiles", 150, (130,), 2, 2, 6, "none", 1, ()),
        ("sharp", 10, (20,), 2, 2, 8, "none", 4, ()),
        ("one_head", 12, (12,), 1, 1, 40, "none", 1, ()),
        ("causal", 10, (10,), 2, 2, 8, "causal", 1, ()),
        ("causal_tiles", 131, (131,), 2, 2, 6, "causal", 1, ()),
        ("causal_one", 1, (1,), 2, 2, 8, "causal", 1, ()),
        ("causal_grouped", 11, (11, 11), 6, 2, 4, "causal", 1, ()),
        ("grouped", 7, (9,), 4, 1, 6, "none", 1, ()),
        ("own", 10, (10, 10), 2, 2, 8, "own", 1, ()),
        ("own_grouped", 9, (9,), 6, 3, 4, "own", 1, ()),
        ("window", 17, (17,), 4, 2, 6, 5, 1, ()),  # a number: causal with that sliding window
        ("window_tiles", 150, (150,), 2, 1, 6, 70, 1, ()),
        ("window_wide", 10, (10, 10), 2, 2, 8, 12, 1, ()),
        ("queries_only", 10, (7,), 2, 2, 4, "none", 1, ("k.0", "v.0")),
        ("keys_only", 10, (7,), 2, 2, 4, "none", 1, ("q", "v.0")),
        ("values_only", 10, (7,), 2, 2, 4, "none", 1, ("q", "k.0")),
    ]:

        def inputs(gen):
            i = {"q": draw(gen, len(keys), Lq, heads * d, std=std)}
            for b, Lk in enumerate(keys):
                i[f"k.{b}"] = draw(gen, Lk, kv_heads * d, std=std)
                i[f"v.{b}"] = draw(gen, Lk, kv_heads * d)
            return i

        def f(q, **kv):
            def split(t, n):
                return t.view(-1, n, d).transpose(0, 1)

            visible = torch.eye(Lq, dtype=torch.bool) if mask == "own" else None
            if isinstance(mask, int):
                sees = sliding_window_causal_mask_function(mask)
                visible = sees(0, 0, torch.arange(Lq)[:, None], torch.arange(Lq))
            rows = []
            for b in range(len(keys)):
                repeats = heads // kv_heads
                key = split(kv[f"k_{b}"], kv_heads).repeat_interleave(repeats, 0)
                value = split(kv[f"v_{b}"], kv_heads).repeat_interleave(repeats, 0)
                y = F.scaled_dot_product_attention(
                    split(q[b], heads), key, value, attn_mask=visible, is_causal=mask == "causal"
                )
                rows.append(y.transpose(0, 1).reshape(Lq, heads * d))
            return torch.stack(rows)

        case(g, name, inputs, f, constants)
    g.save()


def rope():
    g = Golden("grad_rope")
    for name, L, heads, d, rotary, theta, position, factor in [
        ("llama", 7, 2, 8, 8, 10000.0, 0, 1.0),
        ("phi", 5, 3, 12, 6, 10000.0, 3, 1.0),
        ("long", 3, 2, 16, 16, 10000.0, 2045, 1.0),
        ("linear", 9, 2, 8, 8, 10000.0, 5, 2.5),
    ]:

        def f(x):
            w = theta ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary) / factor
            angle = torch.arange(position, position + L, dtype=torch.float64)[:, None] * w
            angle = torch.cat([angle, angle], -1)
            q = x.view(1, L, heads, d).transpose(1, 2)
            turned, _ = apply_rotary_pos_emb(
                q[..., :rotary], q[..., :rotary], angle.cos().to(x)[None], angle.sin().to(x)[None]
            )
            y = torch.cat([turned, q[..., rotary:]], -1)
            return y.transpose(1, 2).reshape(L, heads * d)

        case(g, name, lambda gen: {"x": draw(gen, L, heads * d)}, f)
    g.save()


def embedding():
    g = Golden("grad_embedding")

    def inputs(gen):
        return {"ids": torch.tensor([22, 0, 5, 5, 17, 5, 1]), "w": weight(gen, 23, 9)}

    case(g, "f32", inputs, lambda ids, w: F.embedding(ids, w))
    g.save()


def resample():
    g = Golden("grad_resample")
    for name, B, H, W, C, height, width in [
        ("double", 2, 3, 5, 4, 6, 10),
        ("pixel", 1, 1, 1, 3, 2, 2),
        ("odd", 1, 3, 4, 2, 5, 7),
        ("same", 1, 4, 3, 2, 4, 3),
        ("down", 1, 7, 8, 2, 3, 4),
    ]:

        def f(x):
            return last(F.interpolate(first(x), size=(height, width), mode="nearest"))

        case(g, name, lambda gen: {"x": draw(gen, B, H, W, C)}, f)
    g.save()


def elementwise():
    g = Golden("grad_elementwise")

    def two(gen):
        return {"a": draw(gen, 3, 7, 5), "b": draw(gen, 3, 7, 5, std=2)}

    def mse(x, y, weight=None):
        """As in diffusers' train_text_to_image.py with --snr_gamma."""
        if weight is None:
            return F.mse_loss(x, y).view(1)
        loss = F.mse_loss(x, y, reduction="none").mean(dim=list(range(1, x.ndim))) * weight
        return loss.mean().view(1)

    for name, f in {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "axpby": lambda a, b: 0.3 * a + -1.7 * b,
        "mse": lambda a, b: mse(a, b),
    }.items():
        case(g, name, two, f)
    for name, f in {
        "scale": lambda a: a * 0.3,
        "copy": lambda a: a.clone(),
        "channels_last": lambda a: a.permute(1, 2, 0),
        "channels_first": lambda a: a.permute(2, 0, 1),
    }.items():
        case(g, name, lambda gen: {"a": two(gen)["a"]}, f)

    def weighted(gen):
        return {**two(gen), "weight": torch.tensor([0.25, 1.5, 0.75])}

    case(g, "mse_weighted", weighted, lambda a, b, weight: mse(a, b, weight), ("weight",))
    for name, shape in [("map", (2, 3, 5, 6)), ("rows", (3, 70, 5)), ("vectors", (2, 5))]:

        def inputs(gen):
            return {"x": draw(gen, *shape), "v": draw(gen, shape[0], shape[-1])}

        def f(x, v):
            return x + v.view(shape[0], *(1,) * (len(shape) - 2), shape[-1])

        case(g, f"add_channels/{name}", inputs, f)
    for name, shape, Ca, Cb in [("map", (2, 3, 5), 4, 3), ("rows", (6,), 1, 8)]:

        def inputs(gen):
            return {"a": draw(gen, *shape, Ca), "b": draw(gen, *shape, Cb)}

        case(g, f"concat/{name}", inputs, lambda a, b: torch.cat([a, b], -1))

    # Eq. 9: the scalars that a random adapter has, and those of a fresh one (a2 = 0 learns, b2 can't)
    for name, scalars in {"blend": None, "blend_fresh": (1.0, 0.0, 0.0, 0.0)}.items():

        def inputs(gen):
            s = scalars or [draw(gen, 1, mean=0.7).item() for _ in range(4)]
            names = ["a1", "b1", "a2", "b2"]
            i = {"x1": draw(gen, 2, 70, 35), "x2": draw(gen, 2, 70, 35)}
            return {**i, **{k: torch.tensor([v], dtype=torch.float32) for k, v in zip(names, s)}}

        def f(x1, x2, a1, b1, a2, b2):
            return x1 * (a1 * torch.exp(b1)) + x2 * (a2 * torch.exp(b2))

        case(g, name, inputs, f)
    g.save()


def adamw():
    """Gradients of ten steps [10, n] for three parameters; the last is not decayed. What is left after
    steps 1 and 10: parameters, m, v; the norm before clipping of every step."""
    g = Golden("grad_adamw")
    shapes = {"p": (7, 5), "q": (33,), "s": (1,)}
    for name, lr, betas, eps, decay, max_norm in [
        ("plain", 1e-3, (0.9, 0.999), 1e-8, 0.01, None),
        ("clipped", 3e-2, (0.8, 0.95), 1e-6, 0.1, 6.0),  # norms are 4 .. 17: some steps are, some not
        ("lerp", 1e-2, (0.3, 0.5), 1e-8, 0.0, 1.0),  # torch.lerp from the other end
    ]:

        def run(seed, dtype):
            gen = generator(g.name, name, seed)
            inputs = {k: draw(gen, *shape) for k, shape in shapes.items()}
            size = torch.linspace(0.5, 2.0, 10, dtype=torch.float64).float().double()
            grads = {k: draw(gen, 10, *shape) for k, shape in shapes.items()}
            grads = {k: (t * size.view(10, *(1,) * (t.ndim - 1))).float().double() for k, t in grads.items()}
            p = {k: torch.nn.Parameter(t.clone().to(dtype)) for k, t in inputs.items()}
            groups = [
                {"params": [p["p"], p["q"]], "weight_decay": decay},
                {"params": [p["s"]], "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)
            outputs, norms = {}, []
            for step in range(10):
                for k in p:
                    p[k].grad = grads[k][step].clone().to(dtype)
                norm = torch.nn.utils.clip_grad_norm_(list(p.values()), max_norm or float("inf"))
                norms.append(norm.view(1))
                optimizer.step()
                if step in (0, 9):
                    for k in p:
                        state = optimizer.state[p[k]]
                        outputs[f"{k}.{step + 1}"] = p[k].detach().clone()
                        outputs[f"{k}.{step + 1}.m"] = state["exp_avg"].clone()
                        outputs[f"{k}.{step + 1}.v"] = state["exp_avg_sq"].clone()
            outputs["norms"] = torch.cat(norms)
            return {**inputs, **{k + ".grads": t for k, t in grads.items()}}, outputs

        g.case(name + "/", run)
    g.save()


if __name__ == "__main__":
    for export in [linear, conv2d, norms, activations, attention, rope, embedding, resample]:
        export()
    elementwise()
    adamw()

#!/usr/bin/env python3
"""Golden whole models of RWKV-6 and RWKV-7: tiny and random, run by the published inference code in float64.

usage: python make_rwkv_golden.py MODEL_PY NUMPY_PY [OUT_DIR]       needs numpy, safetensors; no torch
MODEL_PY: rwkv/model.py of PyPI rwkv 0.8.32 (Apache-2.0), of which att_seq_v6_0 and ffn_seq_v6 run as they are, over a few functions of
torch's names on numpy arrays (below); its casts to float32 do nothing, so the truth is float64 throughout.
NUMPY_PY: RWKV-v7/rwkv_v7_numpy.py of github.com/BlinkDL/RWKV-LM (Apache-2.0, commit 2148350), of which time_mixing, channel_mixing and
what they call run as they are. The functions are taken out of the files by name; nothing of the files is kept.
Keys as make_block_golden.py's, without gradients: w.<parameter> under the names of checkpoints, in.x (embedded tokens [B,T,D]), out.y
(after ln_out), out.y_prefix (of the first T//2 tokens alone). Metadata "config": the sizes.
"""
import ast, json, os, sys, types
import numpy as np
from safetensors.numpy import save_file

def taken(path, names, scope):
    """Definitions of `names` in the file at `path`, methods too, run in `scope`."""
    for node in ast.walk(ast.parse(open(path).read())):
        named = {node.name} if isinstance(node, ast.FunctionDef) else {t.id for t in node.targets if isinstance(t, ast.Name)} if isinstance(node, ast.Assign) else set()
        if named & names:
            if isinstance(node, ast.FunctionDef): node.decorator_list = []
            exec(compile(ast.Module([node], []), path, "exec"), scope); names = names - named
    assert not names, names
    return scope

class Array(np.ndarray):
    """What the published functions call on tensors."""
    view = lambda s, *shape: s.reshape(shape)
    transpose = lambda s, a, b: s.swapaxes(a, b)
    permute = lambda s, *axes: wrap(np.transpose(np.asarray(s), axes))
    unbind = lambda s, dim: [wrap(np.asarray(s)[n]) for n in range(s.shape[dim])]
    unsqueeze = lambda s, dim: wrap(np.expand_dims(np.asarray(s), dim))
    float = lambda s: s
    to = lambda s, **_: s
    device = None
wrap = lambda a: np.ndarray.view(np.asarray(a), Array)
def layer_norm(x, _, weight, bias): return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias
def group_norm(x, num_groups, weight, bias, eps):
    g = np.asarray(x).reshape(x.shape[0], num_groups, -1)
    return wrap(((g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + eps)).reshape(x.shape) * weight + bias)
sigmoid = lambda x: 1 / (1 + np.exp(-x))
F = types.SimpleNamespace(layer_norm=layer_norm, group_norm=group_norm, silu=lambda x: x * sigmoid(x))
torch = types.SimpleNamespace(cat=lambda parts: wrap(np.concatenate([np.asarray(p) for p in parts])), tanh=np.tanh, exp=np.exp, bmm=np.matmul, sigmoid=sigmoid,
    relu=lambda x: np.maximum(x, 0), float32=None, empty=lambda shape, **_: wrap(np.empty(shape)))
def matmul(a, b, *_, **__): return a @ b

def mixing(rng, name, shape):
    """Random values of a parameter: gains near 1, all else small and of both signs."""
    v = rng.standard_normal(shape)
    return 1 + 0.2 * v if name.endswith("weight") and "ln" in name else 0.5 * v

def norms(C, layers, shapes):
    for n in ["blocks.0.ln0", "ln_out"] + [f"blocks.{l}.{m}" for l in range(layers) for m in ("ln1", "ln2", "att.ln_x")]:
        shapes |= {n + ".weight": (C,), n + ".bias": (C,)}
    return shapes

def rwkv6(code, C, N, H, Ff, Rm, Rd, L):
    s = {}
    for l in range(L):
        a, f = f"blocks.{l}.att.", f"blocks.{l}.ffn."
        s |= {a + "time_maa_" + n: (1, 1, C) for n in "xwkvrg"} | {a + n + ".weight": (C, C) for n in ("receptance", "key", "value", "gate", "output")}
        s |= {a + "time_maa_w1": (C, 5 * Rm), a + "time_maa_w2": (5, Rm, C), a + "time_decay": (1, 1, C), a + "time_decay_w1": (C, Rd), a + "time_decay_w2": (Rd, C), a + "time_faaaa": (H, N)}
        s |= {f + "time_maa_k": (1, 1, C), f + "time_maa_r": (1, 1, C), f + "key.weight": (Ff, C), f + "receptance.weight": (C, C), f + "value.weight": (C, Ff)}
    scope = taken(code, {"att_seq_v6_0", "ffn_seq_v6"}, {"torch": torch, "F": F, "matmul": matmul})
    def run(w, x):
        p = lambda n: wrap(w[n].squeeze()); t = lambda n: wrap(w[n].T)
        x = wrap(layer_norm(x, None, w["blocks.0.ln0.weight"], w["blocks.0.ln0.bias"]))
        for l in range(L):
            b, a, f = f"blocks.{l}.", f"blocks.{l}.att.", f"blocks.{l}.ffn."
            x, _, _ = scope["att_seq_v6_0"](None, x, wrap(np.zeros(C)), wrap(np.zeros((H, N, N))), p(b + "ln1.weight"), p(b + "ln1.bias"), p(a + "ln_x.weight"), p(a + "ln_x.bias"),
                *[p(a + "time_maa_" + n) for n in "xwkvrg"], p(a + "time_maa_w1"), p(a + "time_maa_w2"), p(a + "time_decay_w1"), p(a + "time_decay_w2"),
                wrap(w[a + "time_decay"].reshape(H, N, 1)), wrap(w[a + "time_faaaa"].reshape(H, N, 1)), *[t(a + n + ".weight") for n in ("key", "value", "receptance", "gate", "output")], *[None] * 20)
            x, _ = scope["ffn_seq_v6"](None, x, wrap(np.zeros(C)), p(b + "ln2.weight"), p(b + "ln2.bias"), p(f + "time_maa_k"), p(f + "time_maa_r"),
                t(f + "key.weight"), t(f + "value.weight"), t(f + "receptance.weight"), *[None] * 12)
        return np.asarray(layer_norm(x, None, w["ln_out.weight"], w["ln_out.bias"]))
    return norms(C, L, s), run, dict(kind="rwkv6_block", hidden_size=C, head_size=N, intermediate_size=Ff, mix_rank=Rm, decay_rank=Rd, num_hidden_layers=L)

def rwkv7(code, C, N, H, Ff, ranks, L):
    s, (Rw, Ra, Rv, Rg) = {}, ranks
    for l in range(L):
        a, f = f"blocks.{l}.att.", f"blocks.{l}.ffn."
        s |= {a + "x_" + n: (1, 1, C) for n in "rwkvag"} | {a + n + ".weight": (C, C) for n in ("receptance", "key", "value", "output")}
        for n, R in (("w", Rw), ("a", Ra), ("v", Rv), ("g", Rg)):
            if n == "v" and l == 0: continue
            s |= {a + n + "1": (C, R), a + n + "2": (R, C)} | ({} if n == "g" else {a + n + "0": (1, 1, C)})
        s |= {a + "k_k": (1, 1, C), a + "k_a": (1, 1, C), a + "r_k": (H, N), f + "x_k": (1, 1, C), f + "key.weight": (Ff, C), f + "value.weight": (C, Ff)}
    scope = taken(code, {"layer_norm", "group_norm", "sigmoid", "time_mixing", "channel_mixing"}, {"np": np, "N_HEAD": H, "HEAD_SIZE": N})
    def run(w, xs):
        p = lambda b, *names: [w[b + n].squeeze() for n in names]
        state = [[np.zeros(C), np.zeros((H, N, N)), np.zeros(C)] for _ in range(L)]; out = []
        for x in xs:
            x = scope["layer_norm"](x, *p("blocks.0.ln0.", "weight", "bias")); v0 = None
            for l in range(L):
                b, a = f"blocks.{l}.", f"blocks.{l}.att."
                own = p(a, *["x_" + n for n in "rwkvag"], "w0", "r_k", "w1", "w2", "a1", "a2", "a0", "g1", "g2") + (p(a, "v2", "v1", "v0") if l else [])
                own += p(a, "k_k", "k_a", "receptance.weight", "key.weight", "value.weight", "output.weight", "ln_x.weight", "ln_x.bias")
                dx, v0, state[l][0], state[l][1] = scope["time_mixing"](scope["layer_norm"](x, *p(b, "ln1.weight", "ln1.bias")), v0, state[l][0], state[l][1], own); x = x + dx
                dx, state[l][2] = scope["channel_mixing"](scope["layer_norm"](x, *p(b, "ln2.weight", "ln2.bias")), state[l][2], *p(b + "ffn.", "x_k", "key.weight", "value.weight")); x = x + dx
            out.append(scope["layer_norm"](x, *p("ln_out.", "weight", "bias")))
        return np.stack(out)
    return norms(C, L, s), run, dict(kind="rwkv7_block", hidden_size=C, head_size=N, intermediate_size=Ff, decay_rank=Rw, rate_rank=Ra, value_rank=Rv, gate_rank=Rg, num_hidden_layers=L)

def make(name, model, seed, B, T, out):
    shapes, run, config = model; rng = np.random.default_rng(seed)
    w = {n: mixing(rng, n, s) for n, s in sorted(shapes.items())}
    x = rng.standard_normal((B, T, config["hidden_size"]))
    y = np.stack([run(w, r.copy()) for r in x]); prefix = np.stack([run(w, r[:T // 2].copy()) for r in x])
    tensors = {"in.x": x, "out.y": y, "out.y_prefix": prefix} | {"w." + n: v for n, v in w.items()}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, f"{out}/{name}.safetensors", metadata={"config": json.dumps(config | {"B": B, "T": T})})
    print(name, y.shape, "largest", abs(y).max(), "prefix consistent", abs(prefix - y[:, :T // 2]).max())

if __name__ == "__main__":
    out = sys.argv[3] if len(sys.argv) > 3 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "block_golden")
    make("rwkv6_l2", rwkv6(sys.argv[1], 8, 4, 2, 11, 3, 5, 2), 81, 2, 13, out)
    make("rwkv7_l2", rwkv7(sys.argv[2], 8, 4, 2, 11, (3, 5, 2, 4), 2), 82, 2, 13, out)

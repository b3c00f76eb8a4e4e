#!/usr/bin/env python3
"""Golden whole model of Mamba-2 with several groups, by mamba_ssm's reference functions: tiny and random, float64, with gradients.

usage: python make_mamba_ssm_golden.py MAMBA_SSM [OUT_DIR]       needs torch (CPU), einops, safetensors
MAMBA_SSM: the folder mamba_ssm of github.com/state-spaces/mamba (Apache-2.0, 2.3.2.post1), of which rms_norm_ref (ops/triton/layernorm_gated.py) and
segsum and ssd_minimal_discrete (modules/ssd_minimal.py) run as they are; the functions are taken out of the files by name, and nothing of the files is
kept. Around them stands what modules/mamba2.py does with them: the order z, x, B, C, dt of in_proj, and the norm with group_size = d_ssm // ngroups and
norm_before_gate=False. Casts to float32 do nothing, so the truth is float64 throughout (the last line that it prints: central differences).
Keys as make_block_golden.py's: w.<parameter> (the names of checkpoints), in.x [B,T,D], out.y, out.y_prefix, up.y, grad.*.
"""
import ast, json, os, sys
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from safetensors.torch import save_file
torch.Tensor.float = lambda self, *a, **k: self.double()

def taken(path, names):
    scope = {"torch": torch, "F": F, "rearrange": rearrange, "repeat": repeat}
    for node in ast.parse(open(path).read()).body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            exec(compile(ast.Module([node], []), path, "exec"), scope)
    return [scope[n] for n in names]

def make(name, sizes, block_len, seed, B, T, folder, out):
    rms_norm_ref, = taken(f"{folder}/ops/triton/layernorm_gated.py", ["rms_norm_ref"])
    _, ssd = taken(f"{folder}/modules/ssd_minimal.py", ["segsum", "ssd_minimal_discrete"])
    D, H, P, N, G, K, L, eps = (sizes[k] for k in ("hidden_size", "num_heads", "head_dim", "state_size", "n_groups", "conv_kernel", "num_hidden_layers", "layer_norm_epsilon"))
    d, conv = H * P, H * P + 2 * G * N
    shapes = {"norm_f.weight": (D,)}
    for l in range(L):
        m = f"layers.{l}.mixer."
        shapes |= {f"layers.{l}.norm.weight": (D,), m + "in_proj.weight": (d + conv + H, D), m + "conv1d.weight": (conv, 1, K), m + "conv1d.bias": (conv,),
            m + "dt_bias": (H,), m + "A_log": (H,), m + "D": (H,), m + "norm.weight": (d,), m + "out_proj.weight": (D, d)}
    g = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)
    w = {n: ((1 + 0.2 * random(*s)) if "norm" in n else 0.5 * random(*s)).requires_grad_() for n, s in sorted(shapes.items())}
    def mixer(m, u):
        z, xBC, dt = torch.split(F.linear(u, w[m + "in_proj.weight"]), [d, conv, H], dim=-1)
        xBC = F.silu(F.conv1d(xBC.transpose(1, 2), w[m + "conv1d.weight"], w[m + "conv1d.bias"], padding=K - 1, groups=conv).transpose(1, 2)[:, :u.shape[1]])
        x, b, c = torch.split(xBC, [d, G * N, G * N], dim=-1)
        x = rearrange(x, "b l (h p) -> b l h p", p=P); dt = F.softplus(dt + w[m + "dt_bias"])
        b, c = (repeat(v, "b l (g n) -> b l (g r) n", g=G, r=H // G) for v in (b, c))
        pad = -u.shape[1] % block_len         # steps behind the end, which change nothing before them
        padded = lambda v: F.pad(v, (0, 0) * (v.dim() - 2) + (0, pad))
        y, _ = ssd(padded(x * dt.unsqueeze(-1)), padded(dt * -torch.exp(w[m + "A_log"])), padded(b), padded(c), block_len)
        y = rearrange(y[:, :u.shape[1]] + x * w[m + "D"].unsqueeze(-1), "b l h p -> b l (h p)")
        y = rms_norm_ref(y, w[m + "norm.weight"], None, z=z, eps=1e-5, group_size=d // G, norm_before_gate=False)
        return F.linear(y, w[m + "out_proj.weight"])
    def run(x):
        for l in range(L): x = x + mixer(f"layers.{l}.mixer.", rms_norm_ref(x, w[f"layers.{l}.norm.weight"], None, eps=eps))
        return rms_norm_ref(x, w["norm_f.weight"], None, eps=eps)
    x = random(B, T, D).requires_grad_(); y = run(x); up = random(*y.shape); (up * y).sum().backward()
    with torch.no_grad(): prefix = run(x[:, :T // 2])
    tensors = {"in.x": x, "out.y": y, "out.y_prefix": prefix, "up.y": up, "grad.x": x.grad}
    for n, p in w.items(): tensors |= {"w." + n: p, "grad." + n: p.grad}
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, f"{out}/{name}.safetensors",
        metadata={"config": json.dumps({"kind": "mamba2_block", "B": B, "T": T} | sizes), "torch": torch.__version__})
    with torch.no_grad():
        v = random(*x.shape); e = 1e-5; difference = ((up * (run(x + e * v) - run(x - e * v))).sum() / (2 * e)).item()
    print(name, tuple(y.shape), "largest", y.abs().max().item(), "prefix consistent", (prefix - y[:, :T // 2]).abs().max().item())
    print(f"  central difference {difference:.10f} analytic {(x.grad * v).sum().item():.10f}")

if __name__ == "__main__":
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "block_golden")
    make("mamba2_groups", dict(hidden_size=10, num_heads=6, head_dim=3, state_size=4, n_groups=3, conv_kernel=3, num_hidden_layers=2, layer_norm_epsilon=1e-5), 4, 92, 2, 19, sys.argv[1], out)

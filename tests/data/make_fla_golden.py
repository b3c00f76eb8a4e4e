#!/usr/bin/env python3
"""Golden whole model of RWKV-7 with flash-linear-attention's names: tiny and random, float64, with gradients.

usage: python make_fla_golden.py [OUT_DIR]       needs torch (CPU), flash-linear-attention 0.6.0, fla-core 0.6.0, einops, transformers 5.23.0, safetensors
The package's own RWKV7Model runs (fuse_norm=False: its norms are torch's), with its own reference functions in the place of its GPU kernels: token_shift_ref,
torch_addcmul_rwkv7, k_update_ref, gate_output_correction_ref, and dplr_recurrence (which scales q; that is undone) in the place of chunk_rwkv7. Casts to
float32 in them do nothing, so the truth is float64 throughout (the last line that it prints: central differences).
Keys as make_block_golden.py's: w.<parameter> (RWKV7Model's names), in.x (inputs_embeds [B,T,D]), out.y (last_hidden_state), out.y_prefix, up.y, grad.*.
"""
import json, os, sys, warnings
import torch
warnings.filterwarnings("ignore")
torch.Tensor.float = lambda self, *a, **k: self.double() if self.is_floating_point() else self.to(torch.float64)
import fla.layers.rwkv7 as layers
import fla.models.rwkv7.modeling_rwkv7 as modeling
import fla, transformers
from fla.modules.token_shift import token_shift_ref
from fla.ops.generalized_delta_rule.dplr.naive import dplr_recurrence
from fla.ops.rwkv7.fused_addcmul import torch_addcmul_rwkv7
from fla.ops.rwkv7.fused_k_update import k_update_ref
from fla.ops.rwkv7.gate_output_correction import gate_output_correction_ref
from fla.models.rwkv7 import RWKV7Config, RWKV7Model
from safetensors.torch import save_file

def shift(x, cu_seqlens=None, cache=None, output_cache=False):
    assert cu_seqlens is None and cache is None
    return token_shift_ref(x), None

def recurrence(r, w, k, v, a, b, scale, initial_state, output_final_state, cu_seqlens, **_):
    assert scale == 1.0 and initial_state is None and cu_seqlens is None
    q, k, v, a, b, w = (t.transpose(1, 2) for t in (r * r.shape[-1] ** 0.5, k, v, a, b, w))
    y, _ = dplr_recurrence(q, k, v, a, b, w, output_final_state=False)
    return y.transpose(1, 2), None

layers.token_shift = modeling.token_shift = shift
layers.fused_addcmul_rwkv7, layers.fused_k_rwkv7 = torch_addcmul_rwkv7, k_update_ref
layers.gate_output_correction, layers.chunk_rwkv7 = gate_output_correction_ref, recurrence

def make(name, config, seed, B, T, out):
    torch.manual_seed(seed); g = torch.Generator().manual_seed(seed)
    model = RWKV7Model(config).double().train()
    with torch.no_grad():
        for n, p in sorted(model.named_parameters()):
            random = torch.randn(p.shape, generator=g, dtype=torch.float64)
            p.copy_(1 + 0.2 * random if "norm.weight" in n else 0.5 * random)
    run = lambda x: model(inputs_embeds=x, use_cache=False).last_hidden_state
    x = torch.randn(B, T, config.hidden_size, generator=g, dtype=torch.float64).requires_grad_()
    y = run(x); up = torch.randn(y.shape, generator=g, dtype=torch.float64)
    (up * y).sum().backward()
    with torch.no_grad(): prefix = run(x[:, :T // 2])
    tensors = {"in.x": x, "out.y": y, "out.y_prefix": prefix, "up.y": up, "grad.x": x.grad}
    for n, p in model.named_parameters():
        if p.grad is None: continue          # the embedding is not used
        tensors["w." + n] = p; tensors["grad." + n] = p.grad
    sizes = dict(kind="rwkv7fla_block", B=B, T=T, hidden_size=config.hidden_size, head_size=config.head_dim, intermediate_size=config.intermediate_size, num_hidden_layers=config.num_hidden_layers,
        decay_rank=config.decay_low_rank_dim, rate_rank=config.a_low_rank_dim, value_rank=config.v_low_rank_dim, gate_rank=config.gate_low_rank_dim)
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, f"{out}/{name}.safetensors",
        metadata={"config": json.dumps(sizes), "torch": torch.__version__, "transformers": transformers.__version__, "fla": fla.__version__})
    with torch.no_grad():
        d = torch.randn(x.shape, generator=g, dtype=torch.float64); e = 1e-5
        difference = ((up * (run(x + e * d) - run(x - e * d))).sum() / (2 * e)).item()
    print(name, tuple(y.shape), "largest", y.abs().max().item(), "prefix consistent", (prefix - y[:, :T // 2]).abs().max().item())
    print(f"  central difference {difference:.10f} analytic {(x.grad * d).sum().item():.10f}")

if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "block_golden")
    make("rwkv7fla_l2", RWKV7Config(vocab_size=8, hidden_size=8, head_dim=4, intermediate_size=11, num_hidden_layers=2, decay_low_rank_dim=3, a_low_rank_dim=5, v_low_rank_dim=2, gate_low_rank_dim=4, fuse_norm=False), 91, 2, 13, out)

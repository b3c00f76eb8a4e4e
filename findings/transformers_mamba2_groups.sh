#!/usr/bin/env bash
# transformers 5.21.0 and 5.23.0 give different numbers for one Mamba-2 with several groups, and say nothing: the norm behind the scan
# (`MambaRMSNormGated`) went over all channels at once in 5.21.0 (and in 4.57.6 and 5.0.0), and goes over each group's channels by itself in
# 5.23.0, as mamba_ssm trains such models and as the CUDA kernel that both versions train with does. With one group the two agree.
#
# Prints how far the two versions' outputs are from one another for n_groups 1 and 2, and fails if they agree for 2.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cat > "$folder/run.py" <<'PY'
import sys

import torch
import transformers

result = {}
for groups in (1, 2):
    torch.manual_seed(1)
    sizes = dict(hidden_size=16, num_heads=4, head_dim=8, state_size=6, num_hidden_layers=1, expand=2, chunk_size=8, vocab_size=8)
    model = transformers.Mamba2Model(transformers.Mamba2Config(n_groups=groups, **sizes)).eval()
    numbers = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=numbers) * 0.5)
        x = torch.randn(2, 11, 16, generator=numbers)
        result[groups] = model(inputs_embeds=x, use_cache=False).last_hidden_state
print("transformers", transformers.__version__)
torch.save(result, sys.argv[1])
PY
python3 -m venv "$folder/venv"
for version in 5.21.0 5.23.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 transformers==$version numpy==2.2.6
    "$folder/venv/bin/python" "$folder/run.py" "$folder/$version.pt"
done
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import torch

old, new = (torch.load(f"{sys.argv[1]}/{version}.pt") for version in ("5.21.0", "5.23.0"))
apart = {groups: (old[groups] - new[groups]).abs().max().item() for groups in old}
for groups, difference in apart.items():
    print(f"n_groups {groups}: largest difference {difference:.1e}, largest value {new[groups].abs().max().item():.1e}")
sys.exit(not (apart[1] < 1e-5 and apart[2] > 1e-2))
PY

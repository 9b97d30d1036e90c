#!/usr/bin/env bash
# transformers 5.23.0: an attention mask of four axes switches a model's sliding window off.
#
# Installs the pinned packages into a temporary virtual environment, runs a small random model on
# the CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the packages
# could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 transformers==5.23.0 \
    || exit 2

cat > "$dir/window.py" <<'PYTHON'
import sys

import torch
import transformers

torch.manual_seed(0)
config = transformers.MistralConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=64, sliding_window=4, initializer_range=0.3,
)
model = transformers.MistralForCausalLM(config).eval()
ids = torch.randint(64, (1, 12))
changed = ids.clone()
changed[0, 0] = (ids[0, 0] + 1) % 64  # out of the reach of two windows of four
T = ids.shape[1]
masks = {
    "no mask": None,
    "ones (1, T)": torch.ones(1, T, dtype=torch.long),
    "causal (1, 1, T, T)": torch.ones(T, T, dtype=torch.bool).tril()[None, None],
}


def reach(mask):
    """How much the last logits move if the first token changes."""
    with torch.no_grad():
        one, other = (model(each, attention_mask=mask).logits[0, -1] for each in (ids, changed))
    return float((one - other).abs().max())


print(f"transformers {transformers.__version__}, Mistral, 2 layers, sliding_window=4, T={T}")
print("change of the last logits if the first token changes:")
found = {name: reach(mask) for name, mask in masks.items()}
for name, value in found.items():
    print(f"  attention_mask: {name:20} {value:.6f}")
seen = found["no mask"] == found["ones (1, T)"] == 0 < found["causal (1, 1, T, T)"]
print("a mask of four axes switches the window off" if seen else "the window is kept")
sys.exit(0 if seen else 1)
PYTHON

"$dir/venv/bin/python" "$dir/window.py"

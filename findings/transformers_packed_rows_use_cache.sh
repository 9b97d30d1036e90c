#!/usr/bin/env bash
# transformers 5.23.0: position ids that begin again keep packed texts apart only with
# use_cache=False. By default a text attends to the one before it, and gradient checkpointing, which
# should change no number, separates them.
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

cat > "$dir/packed.py" <<'PYTHON'
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, initializer_range=0.3,
)
model = transformers.LlamaForCausalLM(config).train()  # no dropout, so the mode changes nothing
first, second = torch.randint(64, (2, 6))
packed = torch.cat([first, second])[None]
positions = torch.arange(6).repeat(2)[None]  # as DataCollatorWithFlattening makes them
with torch.no_grad():
    alone = model(second[None], use_cache=False).logits[0]


def moved(**options):
    """How much the second text's logits differ from those that it has alone."""
    with torch.no_grad():
        logits = model(packed, position_ids=positions, **options).logits
    return float((logits[0, 6:] - alone).abs().max())


print(f"transformers {transformers.__version__}, Llama, two texts of 6 tokens in one row")
print("change of the second text's logits against the text alone:")
found = {
    "default": moved(),
    "use_cache=False": moved(use_cache=False),
    "use_cache=False, attention_mask of ones": moved(
        use_cache=False, attention_mask=torch.ones_like(packed)
    ),
}
model.activation_checkpointing_enable()
found["default, with gradient checkpointing"] = moved()
for name, value in found.items():
    print(f"  {name:40} {value:.6f}")
default, uncached, ones, checkpointed = found.values()
seen = min(default, ones) > 0.1 and max(uncached, checkpointed) < 1e-5
print("packed texts are apart only without a cache" if seen else "packed texts are handled otherwise")
sys.exit(0 if seen else 1)
PYTHON

"$dir/venv/bin/python" "$dir/packed.py"

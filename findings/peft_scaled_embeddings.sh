#!/usr/bin/env bash
# peft 0.21.2: HiRA and TinyLoRA on the embedding of a Gemma model merge to another model.
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
    peft==0.21.2 || exit 2

cat > "$dir/merge.py" <<'PYTHON'
import logging
import math
import warnings

import peft
import torch
import transformers

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
WIDTH = 64
IDS = torch.tensor([[3, 4, 5, 6]])


def model(kind):
    sizes = {
        "vocab_size": 96,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    return getattr(transformers, kind.removesuffix("Text") + "ForCausalLM")(config).eval()


CONFIGS = {
    "LoRA": lambda: peft.LoraConfig(target_modules=["embed_tokens"], r=2),
    "DoRA": lambda: peft.LoraConfig(target_modules=["embed_tokens"], r=2, use_dora=True),
    "OFT": lambda: peft.OFTConfig(target_modules=["embed_tokens"], oft_block_size=4, r=0),
    "HiRA": lambda: peft.HiraConfig(target_modules=["embed_tokens"], r=2),
    "TinyLoRA": lambda: peft.TinyLoraConfig(target_modules=["embed_tokens"], r=2),
}


@torch.no_grad()
def measured(kind, config):
    """The effect of an adapter on the embedding's output, unmerged and merged."""
    wrapped = peft.get_peft_model(model(kind), config)
    torch.manual_seed(1)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))
    inner = wrapped.get_base_model()
    with wrapped.disable_adapter():
        base = inner.get_input_embeddings()(IDS)
    unmerged = inner.get_input_embeddings()(IDS) - base
    merged = wrapped.merge_and_unload().get_input_embeddings()(IDS) - base
    return float(unmerged.norm()), float(merged.norm())


seen = True
print("model    adapter   effect unmerged  effect merged  ratio")
for kind, scale in (("Llama", 1.0), ("Gemma3Text", math.sqrt(WIDTH))):
    for name, config in CONFIGS.items():
        unmerged, merged = measured(kind, config())
        print(f"{kind:10} {name:9} {unmerged:13.5f} {merged:14.5f} {merged / unmerged:8.3f}")
        expected = scale if name in ("HiRA", "TinyLoRA") else 1.0
        seen &= abs(merged / unmerged / expected - 1) < 0.01
print("seen" if seen else "NOT SEEN")
PYTHON

"$dir/venv/bin/python" -c 'import peft, transformers
print("peft version:", peft.__version__, "transformers version:", transformers.__version__)'
cat <<'TEXT'
Guess: merge_and_unload keeps the function of the model, whatever adapter is on the embedding.

Behaviour: on Gemma 3, whose embedding class multiplies its rows by sqrt(width), HiRA and TinyLoRA
add their change after that product, and merging adds it before. So the adapter's effect is
sqrt(width) times larger in the merged model than in the model that was trained (8 here). PEFT
corrects for this product in LoRA; DoRA and OFT change the scaled rows and need no correction. On
Llama all five are equal.

TEXT
"$dir/venv/bin/python" "$dir/merge.py" | tee "$dir/out"
grep -qx seen "$dir/out" || exit 1
cat <<'TEXT'

Consequence: do not merge HiRA or TinyLoRA adapters of the embedding of a Gemma model; keep the
adapter, or train LoRA there.
TEXT

#!/usr/bin/env bash
# peft 0.21.2: unload() does not give back the base: modules in modules_to_save stay trained.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes a few seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen
# any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 transformers==5.23.0 \
    peft==0.21.2 accelerate==1.15.0 || exit 2

cat > "$dir/unload.py" <<'PYTHON'
import inspect
import logging
import sys
import warnings

import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTuner
from transformers import LlamaConfig, LlamaForCausalLM

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
ids = torch.arange(8)[None]


def base():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def trained(config):
    torch.manual_seed(1)
    model = get_peft_model(base(), config).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def off(model):
    """The largest difference to the logits of the untrained base."""
    return float((model(input_ids=ids).logits - base()(input_ids=ids).logits).abs().max())


print("docstring of unload:", " ".join(inspect.getdoc(BaseTuner.unload).split()))
print()
print("                               modules_to_save=None   modules_to_save=[\"lm_head\"]")
lora = {"target_modules": ["q_proj", "v_proj"]}
prompt = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 2}
rows = {}
for saved in (None, ["lm_head"]):
    model = trained(LoraConfig(**lora, modules_to_save=saved))
    with model.disable_adapter():
        rows.setdefault("LoRA, disable_adapter()", []).append(off(model))
    rows.setdefault("LoRA, unload()", []).append(off(model.unload()))
    model = trained(PromptTuningConfig(**prompt, modules_to_save=saved))
    with model.disable_adapter():
        rows.setdefault("prompt tuning, disable_adapter()", []).append(off(model))
for name, (without, with_head) in rows.items():
    print(f"{name:32} {without:18.6f}   {with_head:18.6f}")
seen = (
    rows["LoRA, disable_adapter()"] == [0, 0]
    and rows["LoRA, unload()"][0] == 0
    and rows["LoRA, unload()"][1] > 0.1
    and rows["prompt tuning, disable_adapter()"][0] == 0
    and rows["prompt tuning, disable_adapter()"][1] > 0.1
)
print("seen" if seen else "NOT SEEN")
sys.exit(not seen)
PYTHON

echo "peft version: $("$dir/venv/bin/python" -c 'import peft; print(peft.__version__)')"
cat <<'TEXT'
Guess: model.unload() and model.disable_adapter() both give the base as it was before training. The
wrapper of a module in modules_to_save keeps the original module for this purpose.

Behaviour: with LoRA, disable_adapter() gives the base, but unload() puts the trained copy of each
module in modules_to_save into the model that it returns. With prompt tuning (and the other
prompt-learning methods), disable_adapter() too computes with the trained copy. So a reference
model for DPO or an A/B comparison made in these ways has a trained head. No warning is given.

The numbers are the largest differences to the logits of the untrained base.

TEXT

HF_HUB_OFFLINE=1 "$dir/venv/bin/python" "$dir/unload.py"

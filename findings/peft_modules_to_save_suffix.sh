#!/usr/bin/env bash
# peft 0.21.2: modules_to_save matches the ends of names, target_modules matches whole parts of them.
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

cat > "$dir/suffix.py" <<'PYTHON'
import logging
import sys
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore", category=FutureWarning)


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
    return LlamaForCausalLM(config)


def names(model, kind):
    """The modules of a kind, without the prefix of PEFT's own wrapper."""
    found = [name for name, part in model.named_modules() if type(part).__name__ == kind]
    return [name.removeprefix("base_model.model.") for name in found]


def adapted(name):
    """The modules that LoRA adapts for target_modules=[name]."""
    try:
        model = get_peft_model(base(), LoraConfig(target_modules=[name]))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return names(model, "Linear")


def saved(name):
    """The modules that are copied and trained in full for modules_to_save=[name]."""
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=[name])
    return names(get_peft_model(base(), config), "ModulesToSaveWrapper")


print('target_modules=["proj"]:', adapted("proj"))
print('modules_to_save=["up_proj"]:', saved("up_proj"))
print('modules_to_save=["p_proj"]:', saved("p_proj"))
norms = saved("norm")
print('modules_to_save=["norm"]:', norms)
trained = get_peft_model(
    base(), LoraConfig(target_modules=["q_proj"], modules_to_save=["norm"])
).get_nb_trainable_parameters()[0]
one = get_peft_model(
    base(), LoraConfig(target_modules=["q_proj"], modules_to_save=["model.norm"])
).get_nb_trainable_parameters()[0]
print('trainable parameters with "norm" and with "model.norm":', trained, one)
seen = (
    "not found" in str(adapted("proj"))
    and saved("up_proj") == saved("p_proj") != []
    and len(norms) == 5
    and trained - one == 4 * 32
)
print("seen" if seen else "NOT SEEN")
sys.exit(not seen)
PYTHON

echo "peft version: $("$dir/venv/bin/python" -c 'import peft; print(peft.__version__)')"
cat <<'TEXT'
Guess: both lists of LoraConfig name modules by the same rule, the last parts of the path. So
modules_to_save=["norm"] on a Llama trains the final norm, model.norm, and nothing else.

Behaviour: target_modules compares whole parts of the path ("proj" matches no q_proj and raises an
error), but modules_to_save asks only whether the path ends with the letters. "norm" also copies
and trains input_layernorm and post_attention_layernorm of every layer, "p_proj" copies every
up_proj. No warning is given, and the adapter's file holds all of them. "model.norm" names the
final norm alone.

TEXT

HF_HUB_OFFLINE=1 "$dir/venv/bin/python" "$dir/suffix.py"

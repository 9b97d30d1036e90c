#!/usr/bin/env bash
# transformers 5.23.0: a GenerationConfig passed to generate is completed from the model's own.
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

cat > "$dir/generate.py" <<'PYTHON'
import logging

import torch
import transformers
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

logging.disable(logging.WARNING)
print("transformers version:", transformers.__version__)
torch.manual_seed(0)
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=32, n_layer=2, n_head=2, n_embd=16, bos_token_id=None, eos_token_id=None)
).eval()
# as the generation_config.json of many models does
model.generation_config.repetition_penalty = 1.7
model.generation_config.no_repeat_ngram_size = 1
prompt = torch.tensor([[3, 4, 5]])


def answer(**options):
    """Generate 8 tokens greedily."""
    options = {"do_sample": False, "max_new_tokens": 8} | options
    config = GenerationConfig(pad_token_id=0, **options)
    ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    return ids[0, 3:].tolist()


ids = prompt
with torch.no_grad():
    for _ in range(8):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
plain = ids[0, 3:].tolist()
own = answer()
named = answer(repetition_penalty=1.0, no_repeat_ngram_size=0)
print("argmax of the logits, step by step                 ", plain)
print("GenerationConfig(do_sample=False)                  ", own)
print("the same, with repetition_penalty=1.0, no_repeat...", named)
print("GenerationConfig().repetition_penalty is", GenerationConfig().repetition_penalty)
print("seen" if named == plain != own else "NOT SEEN")
PYTHON

cat <<'TEXT'
Guess: a GenerationConfig passed to generate replaces the model's own. GenerationConfig(do_sample=False)
is greedy decoding, whatever generation_config.json of the model holds.

Behaviour: every field that was not set is taken from the model's generation config. Fields of a new
GenerationConfig are None and not their documented defaults, so a repetition penalty or a ban on
repeated n-grams of the model stays in force.

TEXT
"$dir/venv/bin/python" "$dir/generate.py" | tee "$dir/out"
grep -qx seen "$dir/out" || exit 1
cat <<'TEXT'

Consequence: for greedy decoding name every field that changes logits (repetition_penalty=1.0,
no_repeat_ngram_size=0). A spelling repeats letters: a penalty on repeated tokens makes it wrong.
TEXT

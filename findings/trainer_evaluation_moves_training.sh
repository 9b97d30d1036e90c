#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0: an evaluation during training changes the training.
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
    accelerate==1.15.0 || exit 2

cat > "$dir/evaluating.py" <<'PYTHON'
import logging
import os
import sys
import tempfile

import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

logging.disable(logging.WARNING)
ids = [(torch.arange(8) * (n + 3)) % 50 for n in range(64)]
rows = [{"input_ids": each, "labels": each} for each in ids]


def losses(dropout, **evaluation):
    """The training loss of each of eight steps."""
    set_seed(0)
    drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    config = GPT2Config(
        vocab_size=50, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0,
        eos_token_id=0, **drops,
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=8, logging_steps=1, per_device_train_batch_size=4, report_to=[],
            use_cpu=True, disable_tqdm=True, save_strategy="no", seed=0, **evaluation,
        )
        model = GPT2LMHeadModel(config)
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:8])
        out, sys.stdout = sys.stdout, open(os.devnull, "w")
        trainer.train()
        sys.stdout = out
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


every_two = {"eval_strategy": "steps", "eval_steps": 2}
found = {
    "dropout 0.1, no evaluation": losses(0.1),
    "dropout 0.1, no evaluation, again": losses(0.1),
    "dropout 0.1, evaluated every 2 steps": losses(0.1, **every_two),
    "dropout 0, no evaluation": losses(0.0),
    "dropout 0, evaluated every 2 steps": losses(0.0, **every_two),
}
for name, values in found.items():
    print(f"{name:38}", *(f"{value:.4f}" for value in values))

# the cause: an iterator over any DataLoader draws a number, also without shuffling and workers
torch.manual_seed(0)
before = torch.get_rng_state()
list(DataLoader(list(range(4)), batch_size=2, shuffle=False, num_workers=0))
moved = not torch.equal(before, torch.get_rng_state())
print("a DataLoader without shuffling moved the global generator:", moved)

alone, again, evaluated, plain, plain_evaluated = found.values()
seen = (
    alone == again
    and alone[:2] == evaluated[:2]
    and all(one != other for one, other in zip(alone[2:], evaluated[2:], strict=True))
    and plain == plain_evaluated
    and moved
)
print("seen" if seen else "NOT SEEN")
sys.exit(not seen)
PYTHON

echo "versions: $("$dir/venv/bin/python" -c \
    'import torch, transformers; print("transformers", transformers.__version__, "torch", torch.__version__)')"
cat <<'TEXT'
Guess: eval_strategy="steps" measures the model and leaves the training as it is: the evaluation
neither shuffles nor drops out, so equal seeds give equal training losses with and without it.

Behaviour: from the first evaluation on, every training loss differs. Each evaluation makes an
iterator over a DataLoader, and torch draws a base seed for it from the global generator, also
without shuffling and without workers. The dropout masks of all later steps are then others. With
dropout 0 the losses are equal. So two runs that differ only in eval_steps differ by their random
numbers too.

TEXT

HF_HUB_OFFLINE=1 "$dir/venv/bin/python" "$dir/evaluating.py"

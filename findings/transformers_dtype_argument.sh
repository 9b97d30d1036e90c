#!/usr/bin/env bash
# transformers 5.23.0: from_pretrained(dtype=...) is no conversion to that dtype.
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

cat > "$dir/dtype.py" <<'PYTHON'
import logging
import sys

import torch
import transformers
from torch import nn

logging.disable(logging.WARNING)
transformers.utils.logging.disable_progress_bar()
folder = sys.argv[1]


class Model(transformers.GPT2LMHeadModel):
    """GPT-2 with parameters that name their dtype, and with one that does not."""

    def __init__(self, config):
        super().__init__(config)
        self.gate = nn.Linear(4, 4, bias=False, dtype=torch.float32)
        self.bias = nn.Parameter(torch.zeros(4, dtype=torch.float16))
        self.free = nn.Parameter(torch.zeros(4))


config = transformers.GPT2Config(
    vocab_size=64, n_layer=1, n_head=2, n_embd=16, bos_token_id=None, eos_token_id=None
)


def show(title, model):
    names = ("transformer.wte.weight", "gate.weight", "bias", "free")
    parameters = dict(model.named_parameters())
    found = [str(parameters[name].dtype).removeprefix("torch.") for name in names]
    print(f"{title:38}", *(f"{dtype:22}" for dtype in found))
    return found


print(f"{'':38} transformer.wte.weight gate.weight            bias                   free")
half = Model(config).bfloat16()
whole = show("file written by model.bfloat16()", half)
half.save_pretrained(folder)
bfloat16 = Model.from_pretrained(folder, dtype=torch.bfloat16)
loaded = show("from_pretrained(dtype=torch.bfloat16)", bfloat16)
auto = show('from_pretrained(dtype="auto")', Model.from_pretrained(folder, dtype="auto"))
moved = show("the same, then .to(torch.bfloat16)", bfloat16.to(torch.bfloat16))
seen = whole == moved == ["bfloat16"] * 4
seen = seen and sorted(loaded) == sorted(auto) == ["bfloat16", "bfloat16", "float16", "float32"]
print("seen" if seen else "NOT SEEN")
PYTHON

"$dir/venv/bin/python" -c 'import transformers
print("transformers version:", transformers.__version__)'
cat <<'TEXT'
Guess: after from_pretrained(dtype=torch.bfloat16) every floating-point parameter is bfloat16, in
particular if the file holds bfloat16 for all of them.

Behaviour: dtype is torch's default dtype while the model is built. A parameter whose code names a
dtype keeps that one, and the values of the file are converted to it: float32 and float16
parameters remain in a model that was saved in bfloat16 and loaded with dtype=torch.bfloat16 or
"auto". model.bfloat16() and .to(torch.bfloat16) convert all of them.

TEXT
"$dir/venv/bin/python" "$dir/dtype.py" "$dir/model" | tee "$dir/out"
grep -qx seen "$dir/out" || exit 1
cat <<'TEXT'

Consequence: do not take the argument dtype for the dtype of all parameters. FSDP, which shards
parameters of one dtype only, refuses such a model; call .to(dtype) after from_pretrained.
TEXT

#!/usr/bin/env bash
# x-transformers 2.31.10: a deep copy of a model with tie_embedding=True computes its logits with the
# embedding of the original.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes a few seconds of CPU time. Exit status: 0 if the behaviour is seen, 1 if
# it is not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 x-transformers==2.31.10 \
    ema-pytorch==0.8.3 || exit 2

cat > "$dir/tied_copy.py" <<'PYTHON'
import copy

import torch
from ema_pytorch import EMA
from torch import nn
from x_transformers import Decoder, TransformerWrapper

IDS = torch.arange(8)[None]


def build(tie):
    torch.manual_seed(0)
    layers = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8)
    return TransformerWrapper(
        num_tokens=50, max_seq_len=16, tie_embedding=tie, attn_layers=layers
    ).eval()


def gap(one, other):
    return float((one - other).detach().abs().max())


def step(model):
    """Take one step of SGD."""
    logits = model(IDS)[:, :-1].flatten(0, 1)
    nn.functional.cross_entropy(logits, IDS[:, 1:].flatten()).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()


def measure(tie):
    model = build(tie)
    copied = copy.deepcopy(model)
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in copied.parameters()}
    before = copied(IDS)
    step(model)
    by_step = gap(copied(IDS), before)

    model = build(tie)
    ema = EMA(model, beta=0.99)
    before = ema.ema_model(IDS)
    step(model)  # without ema.update(), so the average must stay
    by_ema = gap(ema.ema_model(IDS), before)
    loaded = build(tie)
    loaded.load_state_dict(ema.ema_model.state_dict())
    return len(shared), by_step, by_ema, gap(loaded(IDS), ema.ema_model(IDS))


print("tie_embedding  shared parameters  copy  EMA's model  EMA's model against its own checkpoint")
seen = True
for tie in (False, True):
    shared, *gaps = measure(tie)
    print("{!s:13} {:18d} {:5.3f} {:12.3f} {:39.3f}".format(tie, shared, *gaps))
    seen &= shared == 0 and all((one > 0) == tie for one in gaps)
print("seen" if seen else "NOT SEEN")
raise SystemExit(not seen)
PYTHON

echo "x-transformers version: $("$dir/venv/bin/python" -c \
    'from importlib.metadata import version; print(version("x-transformers"))')"
cat <<'TEXT'
Guess: a copy of a model (copy.deepcopy, or the averaged model of ema-pytorch, which is such a copy)
shares nothing with the original. A training step of the original does not change its logits, and
its checkpoint gives the same logits when it is loaded.

Behaviour: with tie_embedding=True all three are wrong. The head is a lambda in the attribute
`to_logits`, and its `self` is the model that created it. deepcopy does not copy functions, so the
copy embeds with its own table and computes its logits with the table of the original. No parameter
is shared, so neither the parameters nor the state dict show it.

Columns: change of the logits of the copy, and of ema-pytorch's model, by one step of the original
(no update of the average in between); difference between ema-pytorch's model and a new model with
its state dict.

TEXT
"$dir/venv/bin/python" -W ignore "$dir/tied_copy.py" || exit 1
cat <<'TEXT'

Consequence: evaluate an averaged or copied model with tied embeddings from its state dict, loaded
into a new model.
TEXT

#!/usr/bin/env bash
# torch 2.13.0: vector_to_parameters makes the parameters views of the vector; it copies nothing.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes a few seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen
# any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 || exit 2

cat > "$dir/shared_memory.py" <<'PYTHON'
import io

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 2))


def train(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(3, 64)).square().sum().backward()
    optimizer.step()


# The average of two models ("soup") is put into a third and a fourth model; one of them trains on.
mean = (parameters_to_vector(model(0).parameters()) + parameters_to_vector(model(1).parameters())) / 2
mean, one, other = mean.detach(), model(2), model(3)
vector_to_parameters(mean, one.parameters())
vector_to_parameters(mean, other.parameters())
mean_before, other_before = mean.clone(), other[0].weight.detach().clone()
train(one)
mean_moved = float((mean - mean_before).abs().max())
other_moved = float((other[0].weight.detach() - other_before).abs().max())
print(f"largest change of the vector: {mean_moved:.3f}")
print(f"largest change of the model that was not trained: {other_moved:.3f}")

size = io.BytesIO()
torch.save(one[1].bias, size)
print(f"torch.save of a bias of 2 numbers: {len(size.getvalue()):,} bytes")
tied = one[0].weight.untyped_storage().data_ptr() == one[1].bias.untyped_storage().data_ptr()
print("all parameters of a model share one storage:", tied)
copied = model(4)
vector_to_parameters(mean.clone(), copied.parameters())
train(copied)
alone = torch.equal(mean, parameters_to_vector(one.parameters()).detach())
print("with vector.clone() the vector does not change:", alone)
print("seen" if mean_moved > 0.01 and other_moved > 0.01 and tied else "NOT SEEN")
PYTHON

echo "torch version: $("$dir/venv/bin/python" -c 'import torch; print(torch.__version__)')"
cat <<'TEXT'
Guess: torch.nn.utils.vector_to_parameters copies the values of the vector into the parameters, as
load_state_dict does. Afterwards model and vector are independent.

Behaviour: each parameter's `data` becomes a view of the vector. An optimizer step of the model
changes the vector, and every other model that was filled with it. All parameters share one storage,
so torch.save of a single parameter writes the whole model. The documentation says the contrary:
"Copy slices of a vector into an iterable of parameters."

TEXT

"$dir/venv/bin/python" "$dir/shared_memory.py" > "$dir/out"
cat "$dir/out"
if ! grep -qx seen "$dir/out"; then
    exit 1
fi
cat <<'TEXT'

Consequence: averages and candidates of a soup that are put into models with this function must be
cloned first, or training one model overwrites the kept average.
TEXT

#!/usr/bin/env bash
# torch 2.13.0: the names of Python float attributes change how often torch.compile compiles.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes about half a minute of CPU time. Exit status: 0 if the behaviour is seen,
# 1 if it is not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 sympy==1.14.0 || exit 2

cat > "$dir/attribute_names.py" <<'PYTHON'
import hashlib
import logging

import torch
from torch import nn
from torch._dynamo import lookup_backend

torch._logging.set_logs(dynamo=logging.ERROR)  # hides the warning about the recompile limit

VALUES = [2.5 - step / 8 for step in range(10)]
WIDTH = 3


class Graphs:
    """A backend that counts the graphs it receives. It then compiles with aot_eager.

    aot_eager is the smallest backend that runs AOTAutograd. AOTAutograd turns the floats of a
    graph into tensors, or decides that a float must be a constant. Inductor runs it too.
    """

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return lookup_backend("aot_eager")(graph, inputs)


class Cap(nn.Module):
    """x.clamp(max=cap): torch cannot make this float a tensor, so it becomes a constant."""

    def __init__(self, cap):
        super().__init__()
        self.names = (cap,)
        setattr(self, cap, 3.5)

    def forward(self, x):
        return x.clamp(max=getattr(self, self.names[0]))


class Scale(nn.Module):
    """x * scale: torch makes this float a tensor, so new values need no new graph."""

    def __init__(self, scale):
        super().__init__()
        self.names = (scale,)
        setattr(self, scale, 2.5)

    def forward(self, x):
        return x * getattr(self, self.names[0])


class CapOfAll(nn.Module):
    """Large batches are multiplied by the scale; every batch is capped."""

    def __init__(self, cap, scale):
        super().__init__()
        self.names = (cap, scale)
        setattr(self, cap, 3.5)
        setattr(self, scale, 2.5)

    def forward(self, x):
        cap, scale = self.names
        if x.shape[0] > 4:
            x = x * getattr(self, scale)
        return x.clamp(max=getattr(self, cap))


class CapOfLarge(CapOfAll):
    """Large batches are capped; every batch is multiplied by the scale."""

    def forward(self, x):
        cap, scale = self.names
        if x.shape[0] > 4:
            x = x.clamp(max=getattr(self, cap))
        return x * getattr(self, scale)


def compiled(module):
    graphs = Graphs()
    return torch.compile(module, backend=graphs, dynamic=True), graphs


def check(run, module, rows):
    x = torch.full((rows, WIDTH), 1.5)
    torch.testing.assert_close(run(x), module(x))


def batch_shapes(cap, scale):
    """One module, constant floats, batches of four sizes."""
    torch._dynamo.reset()
    module = CapOfAll(cap, scale)
    run, graphs = compiled(module)
    for rows in (2, 3, 6, 7):
        check(run, module, rows)
    return graphs.count


def schedule(cap, scale):
    """One module, batches of two sizes, a new value of the scale at each step."""
    torch._dynamo.reset()
    module = CapOfLarge(cap, scale)
    run, graphs = compiled(module)
    for value in VALUES[:6]:
        setattr(module, scale, value)
        for rows in (8, 3):
            check(run, module, rows)
    return graphs.count


def two_modules(cap, scale, reset_between=False):
    """A compiled Cap runs once, then a compiled Scale runs with ten values of its scale."""
    torch._dynamo.reset()
    first = Cap(cap)
    check(compiled(first)[0], first, 4)
    if reset_between:
        torch._dynamo.reset()
    second = Scale(scale)
    run, graphs = compiled(second)
    for value in VALUES:
        setattr(second, scale, value)
        check(run, second, 4)
    return graphs.count


def bucket(name):
    digest = hashlib.sha256(f"L['self'].{name}".encode()).digest()
    return int.from_bytes(digest, "big") % 100


def main():
    print("cap       scale      buckets  shapes  schedule  two modules  with reset")
    rows = {}
    for cap in ("top", "ceiling"):
        for scale in ("strength", "slope"):
            rows[cap, scale] = counts = (
                batch_shapes(cap, scale),
                schedule(cap, scale),
                two_modules(cap, scale),
                two_modules(cap, scale, reset_between=True),
            )
            print(
                f"{cap:9} {scale:9}  {bucket(cap):3} {bucket(scale):3}"
                "  {:6}  {:8}  {:11}  {:10}".format(*counts)
            )
    same = {names for names in rows if bucket(names[0]) == bucket(names[1])}
    assert same == {("top", "strength"), ("ceiling", "slope")}
    alike = {rows[names] for names in same}
    apart = {rows[names] for names in rows if names not in same}
    seen = len(alike) == len(apart) == 1
    if seen:
        (shapes, steps, modules, reset), (shapes_0, steps_0, modules_0, reset_0) = *alike, *apart
        seen = shapes > shapes_0 and steps > steps_0 and modules > modules_0 and reset == reset_0
    print("seen" if seen else "NOT SEEN")


main()
PYTHON

echo "torch version: $("$dir/venv/bin/python" -c 'import torch; print(torch.__version__)')"
cat <<'TEXT'
Guess: the names of attributes never change how often torch.compile compiles. The four pairs of
names below give the same counts.

Behaviour: they do. Dynamo names the symbol of a float by the SHA-256 hash of the path of its
source (here L['self'].<name>) modulo 100, plus 1 while that number is taken. AOTAutograd records
the names of the symbols that must be constants. The record belongs to the process: it is still
there when the next graph or the next module is compiled. A float whose symbol has a recorded name
becomes a constant too, although torch could make it a tensor. Each new value of it then compiles
one more graph, up to the recompile limit (8); after that the function runs without compilation.
torch._dynamo.reset() clears the record. The results stay correct.

Columns: the two names; their hashes modulo 100; the graphs that the backend receives
  shapes       one module, constant floats, batches of four sizes
  schedule     one module, batches of two sizes, six values of the scale
  two modules  only the second module: ten values of its scale, after the first module ran once
  with reset   the same, with torch._dynamo.reset() between the two modules

TEXT

# Two seeds of Python's own hash: the counts do not depend on it.
for seed in 0 1; do
    PYTHONHASHSEED=$seed "$dir/venv/bin/python" "$dir/attribute_names.py" > "$dir/seed$seed"
done
cat "$dir/seed0"
if ! cmp -s "$dir/seed0" "$dir/seed1"; then
    echo "PYTHONHASHSEED=1 gives another output:"
    cat "$dir/seed1"
    exit 1
fi
echo "PYTHONHASHSEED=0 and PYTHONHASHSEED=1 give this same output."
if ! grep -qx seen "$dir/seed0"; then
    exit 1
fi
cat <<'TEXT'

Consequence: a float attribute that changes during training (a schedule) can recompile at each step
because of its name and of another float in the process; a new name or a 0-d tensor avoids it.
TEXT

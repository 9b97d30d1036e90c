#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export repeats a failed trace with is_in_onnx_export() False.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the packages could
# not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet \
    torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 || exit 2

cat > "$dir/second_attempt.py" <<'PYTHON'
import io
import sys
import warnings
from contextlib import redirect_stdout

warnings.simplefilter("ignore")

import onnxruntime
import torch
from torch import nn

x = torch.tensor([[1.0, -2.0, 3.0]])


class Guarded(nn.Module):
    """Refuses an export to ONNX: the graph would hold the path that is for training."""

    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            raise NotImplementedError("not for ONNX: merge the adapter first")
        return x * 2


class TwoPaths(nn.Module):
    """Has a path of its own for ONNX, with a slip in it that raises."""

    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            return (x * 3).no_such_method()
        return x * 2


class Sound(nn.Module):
    """The same without the slip."""

    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            return x * 3
        return x * 2


def export(module):
    """Return the outputs of the exported file, or the name of the error."""
    path = f"{sys.argv[1]}/{type(module).__name__}.onnx"
    try:
        with redirect_stdout(io.StringIO()):
            torch.onnx.export(module.eval(), (x,), path, dynamo=True, verbose=False)
    except Exception as error:
        return type(error).__name__
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0].tolist()


def main():
    found = {module.__name__: export(module()) for module in (Guarded, TwoPaths, Sound)}
    for name, result in found.items():
        print(f"{name:9} {result}")
    twice, thrice = (x * 2).tolist(), (x * 3).tolist()
    seen = found == {"Guarded": twice, "TwoPaths": twice, "Sound": thrice}
    print("seen" if seen else "NOT SEEN")
    return not seen


sys.exit(main())
PYTHON

"$dir/venv/bin/python" -c 'import importlib.metadata as m; print(*(f"{n} {m.version(n)}" for n in ("torch", "onnx", "onnxscript", "onnxruntime")), sep=", ")'
cat <<'TEXT'
Guess: an exception that forward raises while torch.onnx.is_in_onnx_export() is True ends the export.
Guarded and TwoPaths cannot be exported.

Behaviour: torch.onnx.export(dynamo=True) discards the exception and traces the module a second time
with Dynamo. Dynamo replaces is_in_onnx_export() by the constant False. So the export succeeds, and
the file holds the branch that is not for ONNX. A guard that raises guards nothing, and a slip in the
branch for ONNX changes the exported function instead of failing. With verbose=False nothing is
printed.

Outputs of the exported files for x = [[1, -2, 3]]; 2 x is the branch outside of ONNX
TEXT
"$dir/venv/bin/python" "$dir/second_attempt.py" "$dir" 2> "$dir/errors" || { tail -5 "$dir/errors"; exit 1; }
cat <<'TEXT'

Consequence: read the state through a function that is decorated with
torch.compiler.assume_constant_result. Dynamo then calls it and sees True in both attempts.
TEXT

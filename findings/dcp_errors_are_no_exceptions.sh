#!/usr/bin/env bash
# torch 2.13.0: `except Exception` does not catch the errors of torch.distributed.checkpoint.
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

cat > "$dir/program.py" <<'PYTHON'
import contextlib
import io
import os
import sys
import tempfile
import warnings

import torch
import torch.distributed.checkpoint as dcp

warnings.simplefilter("ignore")
folder = tempfile.mkdtemp()
dcp.save({"weight": torch.ones(2)}, checkpoint_id=f"{folder}/step1", no_dist=True)
open(f"{folder}/file", "w").close()


def load(name, **wanted):
    return lambda: dcp.load(wanted, checkpoint_id=f"{folder}/{name}", no_dist=True)


def save(name):
    return lambda: dcp.save({"weight": torch.ones(2)}, checkpoint_id=f"{folder}/{name}", no_dist=True)


cases = {
    "load a weight that is not in it": load("step1", bias=torch.zeros(2)),
    "load a weight of another shape": load("step1", weight=torch.zeros(3)),
    "load a checkpoint that is not there": load("step2", weight=torch.zeros(2)),
    "save below a file": save("file/step3"),
}
kinds = {}
for name, call in cases.items():
    kind = "no error"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            call()
    except Exception as error:
        kind = f"caught by `except Exception`: {type(error).__name__}"
    except BaseException as error:
        inner = type(next(iter(error.failures.values()))[0]).__name__
        bases = [base.__name__ for base in type(error).__mro__[1:-1]]
        kind = f"not caught: {type(error).__name__}{tuple(bases)}, made from {inner}"
    kinds[name] = kind
    print(f"{name:36} {kind}")

seen = all(kind.startswith("not caught: CheckpointException") for kind in kinds.values())
print("seen" if seen else "NOT SEEN")
sys.exit(not seen)
PYTHON

echo "versions: $("$dir/venv/bin/python" -c 'import torch; print("torch", torch.__version__)')"
cat <<'TEXT'
Guess: a checkpoint that cannot be read or written raises an error that `except Exception` catches
(FileNotFoundError, OSError, RuntimeError or ValueError, as torch.load and load_state_dict do). So
"try the last checkpoint, else the one before" and "log the failed save and go on" work.

Behaviour: each failure is a CheckpointException, which derives from BaseException, as
KeyboardInterrupt does. `except Exception` lets it pass, and the program ends. The error itself
(RuntimeError, ValueError, AssertionError for a missing checkpoint, NotADirectoryError) is in its
`failures`, by rank, and is not its cause.

TEXT

"$dir/venv/bin/python" "$dir/program.py"

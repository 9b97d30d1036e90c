#!/usr/bin/env bash
# PyYAML 6.0.3 reads valid JSON otherwise than json: emoji become two surrogates, 1e-05 a text.
#
# Installs the pinned package into a temporary virtual environment, runs a small program and prints
# the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and pip; the program
# takes a second. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the
# package could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet pyyaml==6.0.3 || exit 2

cat > "$dir/json_as_yaml.py" <<'PYTHON'
import json

import yaml

written = {"title": "spelling 🍓", "learning_rate": 1e-05, "epsilon": 1.5e-08, "steps": 400}
text = json.dumps(written)
print("the document:  ", text)
read = yaml.safe_load(text)
print("json.loads:    ", ascii(json.loads(text)))
print("yaml.safe_load:", ascii(read))
try:
    read["title"].encode()
    is_text = True
except UnicodeEncodeError as error:
    is_text = False
    print("the title cannot be written to a file:", error.reason)
print("types of the rates:", type(read["learning_rate"]).__name__, type(read["epsilon"]).__name__)

raw = yaml.safe_load(json.dumps(written, ensure_ascii=False))
print("with ensure_ascii=False the title is right:", raw["title"] == written["title"])
own = yaml.safe_load(yaml.safe_dump(written))
print("PyYAML reads what PyYAML wrote:", own == written)
kinds = isinstance(read["learning_rate"], str) and isinstance(read["epsilon"], float)
print("seen" if not is_text and kinds and own == written else "NOT SEEN")
PYTHON

echo "PyYAML version: $("$dir/venv/bin/python" -c 'import yaml; print(yaml.__version__)')"
cat <<'TEXT'
Guess: YAML is a superset of JSON, so a config or the header of a model card can be written with
json.dumps, and yaml.safe_load reads the same values as json.loads.

Behaviour: (1) json.dumps escapes a character beyond U+FFFF as a pair of surrogates. PyYAML decodes
each of the two alone, without an error, and the text fails later, when it is written. (2) json.dumps
writes 1e-05 without a decimal point. PyYAML follows YAML 1.1, whose floats need one, and returns the
text "1e-05"; 1.5e-08 beside it is a float. So the type depends on the digits of the value.

TEXT

"$dir/venv/bin/python" "$dir/json_as_yaml.py" > "$dir/out"
cat "$dir/out"
if ! grep -qx seen "$dir/out"; then
    exit 1
fi
cat <<'TEXT'

Consequence: write the YAML that PyYAML-based programs read (model cards on the hub, configs of
training and evaluation tools) with yaml.safe_dump, or with ensure_ascii=False and floats that have a
decimal point.
TEXT

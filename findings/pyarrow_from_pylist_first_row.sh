#!/usr/bin/env bash
# pyarrow 26.0.1: Table.from_pylist drops every key that the first row lacks, without an error.
#
# Installs the pinned package into a temporary virtual environment, runs a small program and prints
# the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and pip; the program
# takes a second. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the
# package could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet pyarrow==26.0.1 || exit 2

cat > "$dir/rows.py" <<'PYTHON'
import io
import json

import pyarrow as pa
from pyarrow import json as arrow_json

# results of an evaluation: a baseline has no interval, the other rows have one
rows = [
    {"arm": "baseline", "exact_match": 0.31},
    {"arm": "plain", "exact_match": 0.80, "low": 0.77, "high": 0.82},
    {"arm": "lstm", "exact_match": 0.94, "low": 0.92, "high": 0.95},
]
table = pa.Table.from_pylist(rows)
print("from_pylist:           ", table.column_names)
print("a row that had a bound:", table.to_pylist()[2])
backwards = pa.Table.from_pylist(rows[::-1])
print("rows in another order: ", backwards.column_names)
as_structs = pa.array(rows).type
print("pa.array of the rows:  ", [field.name for field in as_structs])
lines = "\n".join(map(json.dumps, rows)).encode()
from_lines = arrow_json.read_json(io.BytesIO(lines)).column_names
print("pyarrow.json, same rows:", from_lines)
whole = [field.name for field in as_structs] == from_lines == backwards.column_names
print("seen" if table.column_names == ["arm", "exact_match"] and whole else "NOT SEEN")
PYTHON

echo "pyarrow version: $("$dir/venv/bin/python" -c 'import pyarrow; print(pyarrow.__version__)')"
cat <<'TEXT'
Guess: a table from a list of rows has a column for every key of any row, with null where a row
lacks the key, as pyarrow.json and pyarrow.array make it from the same rows.

Behaviour: Table.from_pylist takes the names of the columns from the first row alone. A key of a
later row is dropped without an error or a warning, so the columns of a file depend on the order of
the rows.

TEXT

"$dir/venv/bin/python" "$dir/rows.py" > "$dir/out"
cat "$dir/out"
if ! grep -qx seen "$dir/out"; then
    exit 1
fi
cat <<'TEXT'

Consequence: give every row the same keys, or pass a schema, before writing rows to Parquet or CSV.
TEXT

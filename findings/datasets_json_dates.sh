#!/usr/bin/env bash
# datasets 5.2.0: a JSON text column that holds dates alone changes, also if it is declared as text.
#
# Two rows of JSON lines, {"text": "2024-01-02"} and {"text": "2024-01-03"}, are read as timestamps
# and not as text. With features=Features({"text": Value("string")}) the column is text again, but
# another text: "2024-01-02 00:00:00". The guess beforehand: declared as text, the rows come back as
# they are in the file. If a third row is no date, all rows come back unchanged: so the text of a row
# depends on the other rows of its chunk of the file. json.loads and Parquet give the text itself.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program and prints
# the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and pip. Exit status: 0
# if the behaviour is seen, 1 if it is not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1 || exit 2

cat > "$dir/dates.py" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import datasets

here = Path(sys.argv[1])
datasets.disable_progress_bars()
DATES = ["2024-01-02", "2024-01-03"]
AS_TEXT = datasets.Features({"text": datasets.Value("string")})


def read(texts, name, **options):
    file = here / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert [json.loads(line)["text"] for line in file.read_text().splitlines()] == texts
    rows = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(here / "cache"), **options
    )
    print(f"{name}: {rows.features['text']}, {list(rows['text'])}")
    return list(rows["text"])


print(f"datasets {version('datasets')}, pyarrow {version('pyarrow')}")
inferred = read(DATES, "dates")
declared = read(DATES, "dates, declared as text", features=AS_TEXT)
mixed = read([*DATES, "no date"], "dates and a word, declared as text", features=AS_TEXT)
seen = (
    not any(isinstance(value, str) for value in inferred)
    and declared == [f"{date} 00:00:00" for date in DATES]
    and mixed == [*DATES, "no date"]
)
print("behaviour seen" if seen else "behaviour not seen")
sys.exit(0 if seen else 1)
PYTHON

HF_HUB_OFFLINE=1 HF_HOME="$dir/home" "$dir/venv/bin/python" -W ignore "$dir/dates.py" "$dir"

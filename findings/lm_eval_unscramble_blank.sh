#!/usr/bin/env bash
# lm_eval 0.4.13: unscramble scores an answer in the form of its own solved examples as wrong.
#
# Installs a pinned package into a temporary virtual environment, runs a packaged task on local items
# with a small model in Python, and prints the scores. Needs Python 3.11 or later (PYTHON=... selects
# the interpreter) and pip. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if
# the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet lm_eval==0.4.13 || exit 2

cat > "$dir/score.py" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import lm_eval
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

folder = Path(sys.argv[1])
words = ["banana", "garden", "winter", "kettle"]
rows = [{"context": f"Turn the letters round:\n{w[::-1]} =", "completion": w} for w in words]
(folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
packaged = Path(lm_eval.__file__).parent / "tasks" / "unscramble" / "reversed_words.yaml"
local = {
    "include": str(packaged), "dataset_path": "json", "dataset_name": None,
    "dataset_kwargs": {"data_files": {"validation": str(folder / "items.jsonl")}},
}
metric = {
    "metric": "exact_match", "aggregation": "mean", "higher_is_better": True,
    "regexes_to_ignore": [r"^\s+", r"\s+$"],
}
# JSON is YAML
(folder / "packaged.yaml").write_text(json.dumps(local | {"task": "packaged"}))
stripped = local | {"task": "without_blanks", "metric_list": [metric]}
(folder / "without_blanks.yaml").write_text(json.dumps(stripped))


class Continues(LM):
    """Solves each question, and writes the answer as the solved example before it is written."""

    def generate_until(self, requests, **kwargs):
        self.seen = [request.args[0] for request in requests]
        questions = [prompt.rsplit("\n", 1)[-1].removesuffix(" =") for prompt in self.seen]
        return [f" {question[::-1]}" for question in questions]

    def loglikelihood(self, requests, **kwargs):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests, **kwargs):
        raise NotImplementedError


model = Continues()
tasks = ["packaged", "without_blanks"]
found = simple_evaluate(
    model=model, tasks=tasks, num_fewshot=1, bootstrap_iters=0,
    task_manager=TaskManager(include_path=str(folder)),
)["results"]
print("lm_eval", version("lm_eval"))
print("prompt", repr(model.seen[0]))
for task in tasks:
    print(task, found[task]["exact_match,none"])
PYTHON

cat <<'TEXT'
Guess: exact_match removes the blanks around an answer, or the harness does. With solved examples, a
model that continues in their form gets 1.0.

Behaviour: the five tasks of unscramble end a question in "=" and put a blank before the answer of a
solved example. They compare the generated text as it is. The blank before an answer in that form makes
it wrong, so a model that is always right gets 0.0.

TEXT
HF_HOME=$dir HF_HUB_OFFLINE=1 "$dir/venv/bin/python" -W ignore "$dir/score.py" "$dir" 2> "$dir/log" |
    tee "$dir/output" || { cat "$dir/log"; exit 2; }
grep -qx "packaged 0.0" "$dir/output" || exit 1
grep -qx "without_blanks 1.0" "$dir/output" || exit 1
cat <<'TEXT'

Consequence: include the task in one of your own, with regexes_to_ignore: ["^\\s+", "\\s+$"] in its
metric, or compare models by tokenizers that put no blank before a word.
TEXT

#!/usr/bin/env bash
# lm-eval 0.4.13: output_type loglikelihood scores the target without target_delimiter.
#
# A task of type multiple_choice or generate_until puts target_delimiter (" " by default) between the
# question and the answer. A task of type loglikelihood puts it into the solved examples, but not
# before the target that is scored: after "2 + 2 = 4" the model is scored on "3 + 3 =6".
#
# Installs the pinned packages into a temporary virtual environment, runs a small program without a
# model and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the packages could
# not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet lm-eval==0.4.13 datasets==5.2.0 || exit 2

cat > "$dir/delimiter.py" <<'PYTHON'
import json
import logging
import os
import sys
from importlib.metadata import version

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": sys.argv[1]}
logging.disable(logging.WARNING)

from lm_eval.api.task import ConfigurableTask

path = os.path.join(sys.argv[1], "sums.jsonl")
with open(path, "w") as file:
    for question, answer in (("2 + 2 =", "4"), ("3 + 3 =", "6")):
        file.write(json.dumps({"question": question, "answer": answer, "choices": [answer, "5"]}) + "\n")


def scored(output_type, **more):
    """The solved example and the text that is scored, of the second question."""
    task = ConfigurableTask(config={
        "task": output_type, "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"train": path, "test": path}},
        "training_split": "train", "test_split": "test", "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "doc_to_text": "question", "doc_to_target": "answer", "target_delimiter": " ",
        "output_type": output_type, **more,
    })
    document = list(task.test_docs())[1]
    context = task.fewshot_context(document, num_fewshot=1)
    requests = task.construct_requests(
        doc=document, ctx=context, metadata=("sums", 1, 1), apply_chat_template=False
    )
    first = requests[0] if isinstance(requests, list) else requests
    return first.args


print("lm-eval", version("lm-eval"))
found = {
    "multiple_choice": scored("multiple_choice", doc_to_choice="choices"),
    "loglikelihood": scored("loglikelihood", metric_list=[{"metric": "acc"}]),
}
for kind, (context, continuation) in found.items():
    print(f"{kind:15}  context {context!r}  continuation {continuation!r}")
seen = (
    found["multiple_choice"][1] == " 6"
    and found["loglikelihood"][1] == "6"
    and "2 + 2 = 4" in found["loglikelihood"][0]
)
print("loglikelihood: a delimiter in the example, none before the target:", seen)
sys.exit(0 if seen else 1)
PYTHON

status=0
"$dir/venv/bin/python" "$dir/delimiter.py" "$dir" 2> "$dir/errors.txt" || status=$?
[ "$status" -eq 0 ] || tail -n 5 "$dir/errors.txt" >&2
exit "$status"

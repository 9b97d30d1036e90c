#!/usr/bin/env bash
# transformers 5.23.0: tokenizer_class decides which pre-tokenizer of a tokenizer.json is used.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes some seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen
# any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet transformers==5.23.0 tokenizers==0.23.3 || exit 2

cat > "$dir/pre_tokenizer.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

print("tokenizers", tokenizers.__version__, "transformers", transformers.__version__)

# A byte-level BPE whose pre-tokenizer cuts numbers into groups of three digits.
pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "34", "123", "1234", "12345"]
merges = [("1", "2"), ("3", "4"), ("12", "3"), ("12", "34"), ("1234", "5")]
tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
tokenizer.decoder = decoders.ByteLevel()
wanted = tokenizer.encode("12345").tokens
print(f"{'tokenizer.json alone':24} {wanted}")

found = {}
for name in ("PreTrainedTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer"):
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    loaded = AutoTokenizer.from_pretrained(folder)
    found[name] = loaded.tokenize("12345")
    same = tokenizer.get_vocab().items() <= loaded.get_vocab().items()
    print(f"{name:24} {found[name]}, all pieces have the same ids: {same}")

kept = found["PreTrainedTokenizerFast"] == wanted == ["123", "4", "5"]
replaced = found["GPT2Tokenizer"] == ["12345"] and found["Qwen2Tokenizer"] == [*"12345"]
print("seen" if kept and replaced else "NOT SEEN")
PYTHON

cat <<'TEXT'
Guess: AutoTokenizer.from_pretrained(folder) tokenizes as the folder's tokenizer.json does, whatever
class its tokenizer_config.json names. The class adds methods and special tokens.

Behaviour: some classes (GPT2Tokenizer, Qwen2Tokenizer) take the vocabulary and the merges from
tokenizer.json and build normalizer, pre-tokenizer and decoder themselves. The pre-tokenizer of the
file is lost without a warning. The same text then has other ids, with the same vocabulary:
an encoding of OpenAI (o200k) that was saved with the class GPT2Tokenizer reads a number as GPT-2
does. PreTrainedTokenizerFast keeps the file's parts.

TEXT
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$dir/venv/bin/python" "$dir/pre_tokenizer.py" "$dir" 2> /dev/null | tee "$dir/output"
grep -qx seen "$dir/output" || exit 1
cat <<'TEXT'

Consequence: compare ids of AutoTokenizer with those of tokenizers.Tokenizer.from_file on a sample of
text. If they differ, name the class PreTrainedTokenizerFast in tokenizer_config.json.
TEXT

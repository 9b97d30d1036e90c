#!/usr/bin/env bash
# tokenizers 0.23.3: id_to_token and decode give the normalized text of an added token.
#
# Installs two pinned versions of one package into temporary virtual environments, runs a small
# program on the CPU and prints the results. Needs Python 3.11 or later (PYTHON=... selects the
# interpreter) and pip; the program takes a second. Exit status: 0 if the behaviour is seen, 1 if it
# is not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for version in 0.22.2 0.23.3; do
    "${PYTHON:-python3}" -m venv "$dir/$version" || exit 2
    "$dir/$version/bin/python" -m pip install --quiet tokenizers==$version || exit 2
done

cat > "$dir/added.py" <<'PYTHON'
import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers

print("tokenizers", tokenizers.__version__)


def report(name, tokenizer, text):
    """Add a text with the default settings, and go from its id to a text and back."""
    tokenizer.add_tokens([text])
    token_id = tokenizer.get_vocab()[text]
    named = tokenizer.id_to_token(token_id)
    print(
        f"{name:10} added {text!r}, id_to_token {named!r}, token_to_id of that "
        f"{tokenizer.token_to_id(named)}, decode {tokenizer.decode([token_id])!r}"
    )
    return named == text and tokenizer.token_to_id(named) == token_id


lower = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
lower.normalizer = normalizers.Lowercase()

# Llama 2's normalizer and decoder
prepend = Tokenizer(models.BPE({"a": 0, "▁": 1}, []))
prepend.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
)
prepend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])

same = [report("lower case", lower, "Zoo"), report("Llama 2", prepend, "zoo")]
print("the text comes back" if all(same) else "another text comes back")
PYTHON

cat <<'TEXT'
Guess: id_to_token gives the text that was added, so token_to_id(id_to_token(i)) is i for every id.
get_vocab() has that text too.

Behaviour: since version 0.23 id_to_token and decode give the text after the tokenizer's normalizer
(added tokens have normalized=True by default). get_vocab() and token_to_id still use the text that
was added, so token_to_id(id_to_token(i)) is None. Version 0.22 gives the added text everywhere.

TEXT
for version in 0.22.2 0.23.3; do
    "$dir/$version/bin/python" "$dir/added.py" | tee "$dir/output_$version"
done
grep -qx "the text comes back" "$dir/output_0.22.2" || exit 1
grep -qx "another text comes back" "$dir/output_0.23.3" || exit 1
cat <<'TEXT'

Consequence: read the text of an added token from get_added_tokens_decoder() or get_vocab(), or add it
with AddedToken(text, normalized=False).
TEXT

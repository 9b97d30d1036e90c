#!/usr/bin/env bash
# minicons 0.3.39: with bow_correction, the probability that a word ends counts the tokens that begin
# with a space alone, and no punctuation. Of two words that are equally probable, and equally seldom go
# on as a longer word, the one that is usually followed by a full stop scores 2.89 nats lower. A string of
# one token scores nan, because the first token is never counted.
#
# Installs the pinned packages into a temporary virtual environment, scores words under a bigram model and
# prints the scores. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and pip. Exit status: 0
# if the behaviour is seen, 1 if it is not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6 \
    minicons==0.3.39 || exit 2

cat > "$dir/word_end.py" <<'PYTHON'
import math
import sys
from types import SimpleNamespace

import torch
from minicons.scorer import IncrementalLMScorer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# a byte-level tokenizer of eight tokens, as GPT-2's is built; "Ġ" is its sign for a space
VOCABULARY = {token: i for i, token in enumerate(["<end>", "the", "Ġ", "Ġdog", "Ġcat", "Ġran", ".", "s"])}
made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<end>"))
made.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.Split(".", "isolated")]
)
made.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<end>")

# P(next token | token): both words follow "the" equally often and take an "s" equally seldom
NEXT = {
    "the": {"Ġdog": 0.5, "Ġcat": 0.5},
    "Ġdog": {".": 0.90, "Ġran": 0.05, "s": 0.05},
    "Ġcat": {".": 0.05, "Ġran": 0.90, "s": 0.05},
}


class Bigrams(torch.nn.Module):
    def forward(self, input_ids, attention_mask=None):
        table = torch.full((len(VOCABULARY), len(VOCABULARY)), 1e-9)
        for token, following in NEXT.items():
            for other, probability in following.items():
                table[VOCABULARY[token], VOCABULARY[other]] = probability
        return SimpleNamespace(logits=table.log()[input_ids])


scorer = IncrementalLMScorer(Bigrams(), "cpu", tokenizer=tokenizer)
print("tokens of 'the dog.':", tokenizer.tokenize("the dog."))
dog, cat = (
    scorer.sequence_score(text, lambda x: x.sum().item(), bow_correction=True)[0]
    for text in ("the dog", "the cat")
)
bare = [scorer.sequence_score(text)[0] for text in ("the dog", "the cat")]
ends = math.log(0.5 * 0.95)
print(f"log P(word), its first token alone: dog {bare[0]:.3f}, cat {bare[1]:.3f}")
print(f"log P(word that no letter follows), by hand: dog {ends:.3f}, cat {ends:.3f}")
print(f"minicons with bow_correction: dog {dog:.3f}, cat {cat:.3f}, difference {cat - dog:.3f}")
(alone,) = scorer.sequence_score("the")
print(f"minicons, the string 'the' of one token: {alone}")
seen = abs(cat - dog - math.log(18)) < 0.01 and abs(bare[0] - bare[1]) < 1e-6 and math.isnan(alone)
sys.exit(not seen)
PYTHON
"$dir/venv/bin/python" "$dir/word_end.py" 2> "$dir/errors" || {
    cat "$dir/errors" >&2
    echo "not seen any more"
    exit 1
}
echo "seen: a word before a full stop loses probability, and one token has no score"

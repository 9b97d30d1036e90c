#!/usr/bin/env bash
# lm-eval 0.4.13: HFLM replaces a head that the checkpoint keeps separate by the input embedding.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; no model is downloaded. Exit status: 0 if the behaviour is seen, 1 if it is not seen any
# more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet \
    lm-eval==0.4.13 transformers==5.23.0 torch==2.13.0 accelerate==1.15.0 peft==0.21.2 numpy==2.4.6 || exit 2

cat > "$dir/heads.py" <<'PYTHON'
import logging
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

WORDS = "the quick brown fox jumps over a lazy dog".split()
folder = sys.argv[1]
vocabulary = {"<end>": 0} | {word: i for i, word in enumerate(WORDS, 1)}
words = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<end>")
ids = torch.tensor([[vocabulary[word] for word in "the quick brown fox".split()]])
SPECIAL = dict(vocab_size=len(vocabulary), bos_token_id=0, eos_token_id=0)


def score(model):
    """log p(brown, fox | the, quick) by transformers."""
    with torch.no_grad():
        log_p = model.eval()(ids).logits.log_softmax(-1)[0, :-1]
    return float(log_p.gather(1, ids[0, 1:, None])[1:].sum())


def evaluated(pretrained):
    harness = HFLM(pretrained=pretrained, tokenizer=tokenizer, batch_size=1, device="cpu")
    request = Instance("loglikelihood", {}, ("the quick", " brown fox"), 0)
    return harness.loglikelihood([request], disable_tqdm=True)[0][0]


def case(name, model):
    """Give the model a head of its own, save it, and compare the scores."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach() + torch.randn_like(head.weight))
    model.save_pretrained(f"{folder}/{name}")
    own = score(model)
    loaded = AutoModelForCausalLM.from_pretrained(f"{folder}/{name}")
    tied_by_loader = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    by_transformers = score(loaded)
    by_harness = evaluated(loaded)
    afterwards = score(loaded)
    print(
        f"{name:6} flag {model.config.tie_word_embeddings!s:5}  loader ties: {tied_by_loader!s:5}  "
        f"saved {own:8.3f}  loaded {by_transformers:8.3f}  HFLM {by_harness:8.3f}  "
        f"the same object afterwards {afterwards:8.3f}"
    )
    changed = abs(by_harness - own) > 0.01 and abs(afterwards - own) > 0.01
    return not tied_by_loader and abs(by_transformers - own) < 1e-4, changed


torch.manual_seed(0)
# tie_word_embeddings is not given: GPT-2's default is True
gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=32, **SPECIAL))
llama = LlamaForCausalLM(
    LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=False, **SPECIAL,
    )
)
kept, changed = case("gpt2", gpt2)
kept_llama, changed_llama = case("llama", llama)
seen = kept and changed and kept_llama and not changed_llama
print("seen" if seen else "NOT SEEN")
sys.exit(not seen)
PYTHON

"$dir/venv/bin/python" -c 'import importlib.metadata as m; print(*(f"{n} {m.version(n)}" for n in ("lm_eval", "transformers", "torch")), sep=", ")'
cat <<'TEXT'
Guess: lm-eval scores the model that it is given. A checkpoint whose head differs from its input
embedding gets the score that transformers computes, and the model object does not change.

Behaviour: HFLM.__init__ calls model.tie_weights(). transformers' from_pretrained keeps two tables
apart if the file has both and they differ, also if config.tie_word_embeddings is True (GPT-2's
default). tie_weights() goes by the flag alone: the head becomes the input embedding, without a
message. The score is another model's, and the caller's object keeps
the wrong head after the evaluation. With the flag False nothing changes.

Columns: log-probability of " brown fox" after "the quick"
TEXT
"$dir/venv/bin/python" "$dir/heads.py" "$dir" 2> "$dir/errors" || { tail -5 "$dir/errors"; exit 1; }
cat <<'TEXT'

Consequence: set config.tie_word_embeddings to False as soon as a head is separate, before a model is
evaluated with lm-eval or saved for it.
TEXT

#!/usr/bin/env bash
# peft 0.21.2: a second trainable-tokens adapter on a model with a tied head stops the first one too.
#
# Installs the pinned packages into a temporary virtual environment, runs a small random model on
# the CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the packages
# could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 transformers==5.23.0 \
    peft==0.21.2 || exit 2

cat > "$dir/second.py" <<'PYTHON'
import logging
import warnings

import peft
import torch
import transformers

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
IDS = torch.tensor([[3, 4, 5, 40]])


def wrapped(tie, names):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tie,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    return peft.get_peft_model(model, tokens(40, names)).eval()


def tokens(token, names):
    return peft.TrainableTokensConfig(token_indices=[token], target_modules=names)


@torch.no_grad()
def forward(model):
    try:
        model(IDS)
    except ValueError as error:
        return f"ValueError: {str(error)[:51]}..."
    return "logits"


found = []
print("head  targets                 step                                forward")
for tie in (False, True):
    for names in (["embed_tokens"], ["embed_tokens", "lm_head"]):
        head, model = "tied" if tie else "own", wrapped(tie, names)
        found.append(forward(model))
        print(f"{head:5} {'+'.join(names):23} {'one adapter':35} {found[-1]}")
        model.add_adapter("second", tokens(50, names))
        found.append(forward(model))
        print(f"{head:5} {'+'.join(names):23} {'second added, the first is active':35} {found[-1]}")
        model.set_adapter("second")
        found.append(forward(model))
        print(f"{head:5} {'+'.join(names):23} {'the second is active':35} {found[-1]}")
works = [one == "logits" for one in found]
# with a head of its own all work; with a tied one only the first adapter on the embedding alone
print("seen" if works == [True] * 6 + [True] + [False] * 5 else "NOT SEEN")
PYTHON

"$dir/venv/bin/python" -c 'import peft, transformers
print("peft version:", peft.__version__, "transformers version:", transformers.__version__)'
cat <<'TEXT'
Guess: a tied head follows the rows of the embedding, and a second adapter that is only added changes
nothing while the first one is active. Naming embedding and head as targets is allowed too: PEFT has
code for that case.

Behaviour: if the head is tied, every forward raises ValueError as soon as a second adapter was added,
whichever is active, and with one adapter if both modules are targets. The tied head is found by its
present name, which is now that of the layer inside the wrapper, so the wrapper is wrapped again.

TEXT
"$dir/venv/bin/python" "$dir/second.py" | tee "$dir/out"
grep -qx seen "$dir/out" || exit 1
cat <<'TEXT'

Consequence: on a base with a tied head hold one trainable-tokens adapter, with the embedding as its
only target. To serve several sets of tokens, use LoRA on the embedding.
TEXT

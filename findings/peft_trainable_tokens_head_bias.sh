#!/usr/bin/env bash
# peft 0.21.2: trainable tokens leave the bias of the head out of the logits of all tokens.
#
# Installs the pinned packages into a temporary virtual environment, runs small random models on
# the CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the packages
# could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 transformers==5.23.0 \
    peft==0.21.2 || exit 2

cat > "$dir/bias.py" <<'PYTHON'
import copy
import logging
import warnings

import peft
import torch
import transformers

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
IDS = torch.tensor([[3, 4, 5, 6]])
TOKEN = 40  # the one trainable token; it does not occur in IDS


def model(kind, tie):
    sizes = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "rotary_dim": 4,
        "tie_word_embeddings": tie,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**sizes)
    )
    with torch.no_grad():
        made.lm_head.bias.normal_()  # as a trained model has one; its initial values are zeros
    return made.eval()


CONFIGS = {
    "TrainableTokensConfig": lambda names: peft.TrainableTokensConfig(
        token_indices=[TOKEN], target_modules=names
    ),
    "LoraConfig": lambda names: peft.LoraConfig(
        r=2, target_modules=["q_proj"], trainable_token_indices={name: [TOKEN] for name in names}
    ),
}


@torch.no_grad()
def measured(base, config):
    """Differences to the base of an untrained adapter: unmerged and merged."""
    wrapped = peft.get_peft_model(copy.deepcopy(base), config).eval()
    expected = base(IDS).logits
    unmerged = wrapped(IDS).logits - expected
    merged = wrapped.merge_and_unload()(IDS).logits - expected
    # the difference is the bias itself, at every position and for every token
    only_bias = bool(torch.allclose(unmerged, -base.lm_head.bias.expand_as(unmerged), atol=1e-5))
    return float(unmerged.abs().max()), float(merged.abs().max()), only_bias


seen = True
print("model  head  config                 unmerged  merged  tokens that differ: all, by the bias")
for kind, tie in (("GPTJ", True), ("Phi", False)):
    base = model(kind, tie)
    embedding = next(
        name for name, part in base.named_modules() if part is base.get_input_embeddings()
    )
    names = [embedding] if tie else [embedding, "lm_head"]
    for name, config in CONFIGS.items():
        unmerged, merged, only_bias = measured(base, config(names))
        head = "tied" if tie else "own"
        print(f"{kind:6} {head:5} {name:22} {unmerged:8.4f} {merged:7.4f}  {only_bias}")
        seen &= unmerged > 0.1 and merged < 1e-5 and only_bias
print("seen" if seen else "NOT SEEN")
PYTHON

"$dir/venv/bin/python" -c 'import peft, transformers
print("peft version:", peft.__version__, "transformers version:", transformers.__version__)'
cat <<'TEXT'
Guess: before any training the adapter changes no logit, because its rows are those of the base; and
merging it keeps the function of the model.

Behaviour: if the head has a bias (GPT-J, CodeGen, Phi), the wrapped head computes the product with
its weight alone. The bias is missing from the logits of every token at every position, also of texts
without the trainable token. Merging brings the bias back, so the merged model is another one than
the model that was trained. No error and no warning names the bias.

TEXT
"$dir/venv/bin/python" "$dir/bias.py" | tee "$dir/out"
grep -qx seen "$dir/out" || exit 1
cat <<'TEXT'

Consequence: train rows of such a model without wrapping its head, or as LoRA (target_modules with
the head), whose forward calls the head itself and keeps the bias.
TEXT

#!/usr/bin/env bash
# CTranslate2 4.8.5: one short prompt in a batch makes all longer ones go token by token.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes some seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen
# any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet ctranslate2==4.8.5 numpy==2.4.6 || exit 2

cat > "$dir/program.py" <<'PYTHON'
import os
import sys
import time

import ctranslate2
import numpy as np

WIDTH, WORDS, LONG, ROWS = 128, 16_000, 256, 16
random = np.random.default_rng(0)


def fill(spec):
    """Give a specification random weights of the right shapes."""
    heads = WIDTH

    def draw(*shape):
        return random.normal(0, 0.05, shape).astype(np.float32)

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = draw(WORDS, WIDTH)
    decoder.projection.weight = draw(WORDS, WIDTH)
    decoder.layer_norm.gamma = np.ones(WIDTH, np.float32)
    for layer in decoder.layer:
        attention = layer.self_attention
        attention.layer_norm.gamma = np.ones(WIDTH, np.float32)
        attention.linear[0].weight = draw(3 * heads, WIDTH)
        attention.linear[1].weight = draw(WIDTH, heads)
        layer.ffn.layer_norm.gamma = np.ones(WIDTH, np.float32)
        layer.ffn.linear_0.weight = draw(4 * WIDTH, WIDTH)
        layer.ffn.linear_0_noact.weight = draw(4 * WIDTH, WIDTH)
        layer.ffn.linear_1.weight = draw(WIDTH, 4 * WIDTH)


spec = ctranslate2.specs.TransformerDecoderModelSpec.from_config(
    2, 4, activation=ctranslate2.specs.Activation.SWISH, pre_norm=True, ffn_glu=True,
    rms_norm=True, rotary_dim=0, rotary_interleave=False,
)
fill(spec)
words = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(WORDS - 3))]
spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = words[:3]
spec.register_vocabulary(words)
spec.validate()
spec.optimize(quantization=None)
os.mkdir(sys.argv[1])
spec.save(sys.argv[1])
generator = ctranslate2.Generator(sys.argv[1], inter_threads=1, intra_threads=1)


def seconds(prompts):
    """The least CPU time of three calls that write one token after each prompt."""
    took = []
    for _ in range(3):
        began = time.process_time()
        found = generator.generate_batch(
            prompts, max_length=1, include_prompt_in_result=False, sampling_topk=1, end_token=[],
        )
        took.append(time.process_time() - began)
    return min(took), [each.sequences_ids[0] for each in found]


long = [[words[3 + (7 * row + place) % 999] for place in range(LONG)] for row in range(ROWS)]
short = long[0][:2]
equal, first = seconds(long)
mixed, second = seconds([*long[:-1], short])
apart = seconds(long[:-1])[0] + seconds([short])[0]
print(f"{ROWS} prompts of {LONG} tokens: {equal:.2f} s")
print(f"{ROWS - 1} of them and one of 2 tokens, in one call: {mixed:.2f} s")
print(f"the same in two calls: {apart:.2f} s; one call takes {mixed / apart:.1f} times as long")
print(f"equal tokens after the long prompts: {first[:-1] == second[:-1]}")
sys.exit(0 if mixed > 2 * apart else 1)
PYTHON

echo "versions: $("$dir/venv/bin/python" -c 'import ctranslate2; print("ctranslate2", ctranslate2.__version__)')"
cat <<'TEXT'
Guess: generate_batch pads prompts of different lengths, so a batch costs at most as much as if all
prompts had the length of the longest one.

Behaviour: it reads all prompts together only up to the length of the shortest one (less one
token). The rest of each longer prompt goes token by token, and each of these steps also computes
the logits of the whole vocabulary, which are thrown away. So one short prompt makes a batch several
times slower. The tokens do not change. Sort prompts by length (max_batch_size does that), or give
the common beginning as static_prompt.

TEXT

status=0
"$dir/venv/bin/python" "$dir/program.py" "$dir/model" || status=$?
if [ "$status" = 0 ]; then
    echo seen
else
    echo "NOT SEEN"
    exit 1
fi

"""Ask a weight file of the parent experiment the questions.

    python -m examples.parent.ask FILE --tokens tokens.json

FILE is one of the two that gpt_char_encoder publishes, read without running anything in it (see
examples/parent/convert.py). A weight file does not say what its tokens are: `--tokens` is a JSON list of their
texts, in the order of their ids. `--characters` is a text with the characters in the order of the file's
character table; by default the single characters as they stand among the tokens, then "§".

His answers have no end mark, so of what a model writes the first run of letters and digits counts. Which
words it was trained on is not known either: the words are the packaged list's, and no split is made.
Questions that do not fit the file's context are passed over. Prints exact match, its 95 % interval and the
majority baseline per task.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import tiktoken
import torch

from charembed import SpellingTable
from examples.parent.convert import converted, read_state
from synthetic_tasks import Material, build_task, distinct, one_list, usable_words
from training.config.flags import changed
from training.config.presets import preset
from training.data.bpe import SPLIT
from training.data.corpus import load_words, read_text
from training.data.tokenizers import Tiktoken
from training.errors import BadInput, exit_status
from training.intervals import wilson
from training.models.generate import generate
from training.models.language_model import LanguageModel
from training.run.build import build_arm
from training.train.state import load_parameters

NOWHERE = "§"  # his 100th character, which stands in no token


def read_tokens(path: Path) -> list[str]:
    """The texts of all tokens. Raises BadInput for what is no such list."""
    try:
        tokens = json.loads(read_text(path, "the list of tokens"))
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path} is no JSON ({error}): pass a JSON list of the tokens' texts."
        ) from None
    texts = isinstance(tokens, list) and all(isinstance(token, str) and token for token in tokens)
    if not texts or len(set(tokens)) != len(tokens):
        raise BadInput(
            f"{path} holds no list of different texts: pass a JSON list of the tokens' texts."
        )
    return tokens


def load(path: Path, tokens: list[str], characters: str) -> tuple[LanguageModel, str]:
    """The model of a weight file, and which arm it is. Raises BadInput for tokens that do not fit."""
    tensors, arm = converted(read_state(path))
    (rows, _), context = tensors["wte.weight"].shape, len(tensors["wpe.weight"])
    if rows != len(tokens):
        raise BadInput(
            f"the file has {rows} tokens, the list {len(tokens)}: pass the list that belongs to it."
        )
    spellings = SpellingTable.from_bytes(
        [token.encode() for token in tokens], alphabet=[*map(ord, characters)]
    )
    config = changed(
        preset("parent"), vocab_size=rows, context=min(context, 64), finetune_context=context
    )
    model = build_arm(config, arm, 0, spellings)
    model.extend_context(context, torch.Generator())
    load_parameters(model, tensors, path)
    return model.eval(), arm


def ask(model: LanguageModel, tokens: list[str], num_questions: int) -> None:
    ranks = {token.encode(): number for number, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("parent", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={})
    tokenizer = Tiktoken(encoding)
    words = usable_words(load_words("wordsegment", 50_000), 5, 13)
    splits = one_list(words)
    for name in preset("parent").data.tasks:
        task = build_task(name, Material(words=splits, wording="sentences", form="plain"))
        items = distinct(task, "seen", 4 * num_questions, "parent")
        if missing := sorted(
            {letter for item in items for letter in item.prompt + item.answer} - set(tokens)
        ):
            raise BadInput(
                f"the list of tokens lacks {missing[0]!r}: every letter of a question must be one."
            )
        room = max(len(tokenizer.encode(item.answer)) for item in items) + 2
        fitting = (
            item
            for item in items
            if len(tokenizer.encode(item.prompt)) + room <= (model.context or 0)
        )
        items = list(itertools.islice(fitting, num_questions))
        if not items:
            raise BadInput(
                f"no question of {name} fits the file's context of {model.context} tokens."
            )
        prompts = [tokenizer.encode(item.prompt) for item in items]
        written = generate(model, prompts, max_new_tokens=room, context=model.context or 0)
        found = [re.match(r"\s*(\w*)", encoding.decode(ids)) for ids in written]
        right = [
            bool(m) and m[1] == item.answer.strip() for m, item in zip(found, items, strict=True)
        ]
        low, high = wilson(sum(right), len(right))
        score = f"{sum(right) / len(right):.2f} ({low:.2f} to {high:.2f}), n = {len(right)}"
        print(f"{name}: {score}, majority answer {task.baseline(items):.2f}")
        print(f"  {items[0].prompt!r} -> {encoding.decode(written[0])!r}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokens", type=Path, required=True, help="JSON list of the tokens' texts")
    parser.add_argument("--characters", help="the character table's characters, in order")
    parser.add_argument("--questions", type=int, default=200, help="per task (200)")
    options = parser.parse_args(argv)

    def program() -> int:
        if options.questions < 1:
            raise BadInput(f"--questions is {options.questions}; it must be 1 or more.")
        tokens = read_tokens(options.tokens)
        single = "".join(token for token in tokens if len(token) == 1)
        model, arm = load(options.file, tokens, options.characters or single + NOWHERE)
        print(f"the arm {arm!r}, {len(tokens)} tokens")
        ask(model, tokens, options.questions)
        return 0

    return exit_status(program)


if __name__ == "__main__":
    sys.exit(main())

"""Ask a weight file of the parent experiment the questions of its tasks.

    python -m examples.parent.ask FILE --tokens tokens.json

FILE is one of the two that gpt_char_encoder publishes, loaded without running code from it (see
examples/parent/convert.py). A weight file does not contain the texts of its tokens: `--tokens` is a
JSON list of them, in the order of their ids. `--characters` is a text with the characters in the
order of the file's character table; by default the tokens of one character, then "§".

The parent's answers have no end mark, so the first run of letters and digits counts. Its training
words are not known either: the questions are about the packaged word list, without splits.
Questions that do not fit the file's context are skipped. The output is exact match, its 95 %
interval and the majority baseline of each task.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import tiktoken
import torch

from charembed import SpellingTable
from examples.parent.convert import converted, read_state
from synthetic_tasks import Material, build_task, distinct, one_list, usable_words
from synthetic_tasks.formats import BenchmarkTask, PromptFormat
from training.ask.answers import Answers, ask
from training.ask.eval_sets import EvalSet
from training.ask.evaluated_model import EvaluatedLanguageModel
from training.ask.scores import eval_rows
from training.config.flags import changed
from training.config.presets import preset
from training.data.corpus import load_words
from training.data.encodings import SPLIT
from training.data.readers import read_text
from training.data.tokenizers import Tiktoken
from training.errors import BadInput, exit_status
from training.flags import Parser, check_numbers
from training.models.language_model import LanguageModel
from training.run.build import build_arm
from training.train.state import load_parameters

NO_TOKEN = "§"  # the parent's 100th character, which no token contains


def read_tokens(path: Path) -> list[str]:
    """Read the texts of all tokens. Raises BadInput for anything but a list of different texts."""
    try:
        tokens = json.loads(read_text(path, "the list of tokens"))
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path} is no JSON ({error}). Pass a JSON list of the tokens' texts."
        ) from None
    texts = isinstance(tokens, list) and all(isinstance(token, str) and token for token in tokens)
    if not texts or len(set(tokens)) != len(tokens):
        raise BadInput(
            f"{path} holds no list of different texts. Pass a JSON list of the tokens' texts."
        )
    return tokens


def load(path: Path, tokens: list[str], characters: str) -> tuple[LanguageModel, str]:
    """Load a weight file, and name its arm. Raises BadInput for tokens that do not fit."""
    tensors, arm = converted(read_state(path))
    (rows, _), context = tensors["wte.weight"].shape, len(tensors["wpe.weight"])
    if rows != len(tokens):
        raise BadInput(
            f"The file has {rows} tokens, the list {len(tokens)}. Pass the list that belongs to it."
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


def make_eval_set(
    name: str, tokenizer: Tiktoken, tokens: list[str], context: int, n: int
) -> EvalSet:
    """Draw n questions of a task that fit a context, with the answer read as in `first_run`."""
    words = one_list(usable_words(load_words("wordsegment", 50_000), 5, 13))
    task = build_task(name, Material(words=words, wording="sentences", form="plain"))
    items = distinct(task, "seen", 4 * n, "parent")  # 4 times as many: some do not fit
    letters = {letter for item in items for letter in item.prompt + item.answer}
    if missing := sorted(letters - set(tokens)):
        raise BadInput(
            f"The list of tokens lacks {missing[0]!r}. Every letter of a question must be a token."
        )
    # 2 more than the right answer: a longer word must be seen to be wrong
    limit = max(len(tokenizer.encode(item.answer)) for item in items) + 2
    fitting = (item for item in items if len(tokenizer.encode(item.prompt)) + limit <= context)
    chosen = tuple(islice(fitting, n))
    if not chosen:
        raise BadInput(f"No question of {name} fits the file's context of {context} tokens.")
    benchmark = BenchmarkTask(
        name, chosen, PromptFormat(max_new_tokens=limit, stop=""), read=first_run
    )
    return EvalSet(benchmark, "seen", chosen, benchmark.prompt_format, benchmark.read)


def first_run(text: str) -> str | None:
    """Return the letters and digits at the start of a text: first_run(" ananab, w") -> "ananab"."""
    found = re.match(r"\s*(\w*)", text)
    return found[1] if found else None


def print_scores(model: LanguageModel, arm: str, tokens: list[str], n: int) -> None:
    """Ask n questions of each task of the parent experiment, and print the scores."""
    ranks = {token.encode(): number for number, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("parent", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={})
    tokenizer, context = Tiktoken(encoding), model.context or 0
    evaluated = EvaluatedLanguageModel(
        name=arm, about=arm, model=model, tokenizer=tokenizer, material=Material(), context=context
    )
    for name in preset("parent").data.tasks:
        eval_set = make_eval_set(name, tokenizer, tokens, context, n)
        answers = Answers([eval_set])
        ask(evaluated, answers)
        (row,) = eval_rows([eval_set], answers.by_set(), arm, 0, details=False)
        score = f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f}), n = {row.n}"
        print(f"{name}: {score}, majority baseline {row.majority:.2f}")
        print(f"  {eval_set.items[0].prompt!r} -> {answers.of(eval_set)[0].given!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 for bad input."""
    parser = Parser("python -m examples.parent.ask", __doc__)
    add = parser.add_argument
    add("file", type=Path)
    add("--tokens", type=Path, required=True, help="JSON list of the tokens' texts")
    add("--characters", help="the characters of the character table, in order")
    add("--questions", type=int, default=200, help="per task [%(default)s]")

    def program() -> int:
        options = parser.parse_args(argv)
        check_numbers(options, questions=(1, None))
        tokens = read_tokens(options.tokens)
        single = "".join(token for token in tokens if len(token) == 1)
        model, arm = load(options.file, tokens, options.characters or single + NO_TOKEN)
        print(f"the arm {arm!r}, {len(tokens)} tokens")
        print_scores(model, arm, tokens, options.questions)
        return 0

    return exit_status(program)


if __name__ == "__main__":
    sys.exit(main())

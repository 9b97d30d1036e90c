"""Add words to the vocabulary of a trained model: one new token each, which it can still spell.

    python -m examples.new_tokens RUN               # 20 long words, arm lstm of a finished run
    python -m examples.new_tokens RUN --words zymurgy,quokka --out extended

RUN is a run of a pretrained model (`python -m training.compare --preset smollm2`). The model spells
each word twice: as the several tokens that it was, and as the one token that it becomes, without
training. --out saves the extended model, its tokenizer and its character encoder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import charembed
from synthetic_tasks import stream
from training.ask.eval_sets import stop_ids
from training.data.corpus import load_words
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput, exit_status
from training.flags import Parser, check_texts
from training.models.generate import generate
from training.run.run import Run


def answers(language_model: Any, tokenizer: HuggingFaceTokenizer, prompts: list[str]) -> list[str]:
    """Return the line that the model generates after each prompt."""
    written = generate(
        language_model,
        [tokenizer.encode(prompt) for prompt in prompts],
        max_new_tokens=24,
        stop=stop_ids(tokenizer),
        context=96,
    )
    return [tokenizer.decode(ids).strip() for ids in written]


def long_words(tokenizer: HuggingFaceTokenizer, data: Any, number: int) -> list[str]:
    """Draw words of three or more tokens that no training question contained."""
    trained = set(data.splits.seen) if data.splits else set()
    # 6 to 8 letters: long enough for three tokens, short enough to be spelled.
    words = [
        word
        for word in load_words("wordsegment", 50_000)
        if 6 <= len(word) <= 8 and word not in trained and len(tokenizer.encode_word(word)) >= 3
    ]
    return stream("new tokens").sample(words, min(number, len(words)))


def program(argv: Sequence[str] | None) -> int:
    parser = Parser("python -m examples.new_tokens", __doc__)
    add = parser.add_argument
    add("run", type=Path, help="run folder")
    add("--words", help="separated by commas [20 drawn ones]")
    add("--arm", default="lstm", help="[%(default)s]")
    add("--out", type=Path, help="folder for the extended model")
    add("--cache", type=Path, default=Path(".cache"), help="the cache of the run [%(default)s]")
    options = parser.parse_args(argv)
    check_texts(options)
    run = Run.open(options.run, options.cache)
    config, data = run.config, run.data
    if not config.model.pretrained or options.arm not in config.arms:
        raise BadInput(
            f"{options.run} has no arm {options.arm!r} of a pretrained model. Name a run of "
            "--preset smollm2."
        )
    if config.data.wording != "compact" or config.data.answer_form == "plain":
        raise BadInput(
            f"{options.run} was trained with --wording {config.data.wording} --answer-form "
            f"{config.data.answer_form}, but the prompts here are as in 'spell tea: t e a'. "
            "Name a run with the compact wording and another form."
        )
    if options.out and options.out.exists():
        raise BadInput(f"{options.out} exists. Name a new folder.")
    arm = run.arm(options.arm)
    language_model = arm.model()
    model: Any = language_model.get_submodule("model")
    tokenizer = data.tokenizer.source
    before = HuggingFaceTokenizer(tokenizer)
    words = options.words.split(",") if options.words else long_words(before, data, 20)
    # a rival may have been trained on questions that also give the letters
    letters = [f" {' '.join(word)}" if arm.data.letters_in_prompts else "" for word in words]
    prompts = [f"spell {word}{spelled}:" for word, spelled in zip(words, letters, strict=True)]
    # Counted now: afterwards the tokenizer knows each word as one token.
    pieces = [len(before.encode_word(word)) for word in words]
    as_pieces = answers(language_model, before, prompts)

    # Changes the model and the tokenizer in place; no training follows.
    charembed.add_tokens(model, tokenizer, words)

    after = HuggingFaceTokenizer(tokenizer)
    as_token = answers(language_model, after, prompts)
    table = Table("word", "tokens", "spelled then", "tokens now", "spelled now")
    for word, then, old, new in zip(words, pieces, as_pieces, as_token, strict=True):
        # escaped: an answer with square brackets would be read as a style
        cells = [word, str(then), old, str(len(after.encode_word(word))), new]
        table.add_row(*map(escape, cells))
    Console().print(table)
    for name, given in (("in pieces", as_pieces), ("as one token", as_token)):
        right = sum(text == " ".join(word) for word, text in zip(words, given, strict=True))
        print(f"{name}: {right} of {len(words)} spelled right")
    if options.out:
        load = f"AutoModelForCausalLM.from_pretrained({str(options.out)!r})"
        if charembed.parameters(model):
            charembed.save(model, options.out / "letters")
            charembed.detach(model)
            load = f"charembed.load({load}, tokenizer, {str(options.out / 'letters')!r})"
        model.save_pretrained(options.out)
        tokenizer.save_pretrained(options.out)
        print(f"load it: {load}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    torch.set_num_threads(1)
    return exit_status(lambda: program(argv))


if __name__ == "__main__":
    sys.exit(main())

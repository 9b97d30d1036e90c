"""Compare ways to fill the rows of new tokens, without training and after a little of it.

    python -m benchmarks.new_tokens RUN --train 50

RUN is a finished run of a pretrained model with the arms plain and lstm (--preset smollm2). 200 words
of several tokens each that no training question contained become one token. The ways:

- `as before`: the words stay in pieces.
- `default`: transformers draws the rows from the mean and covariance of the old rows.
- `pieces`: the mean of the rows of the old pieces, character vectors included.
- `letters`: as `default`, plus the token's own character vector.
- `both`: the mean of the pieces' rows without character vectors, plus its own character vector.
- `add_tokens`: `charembed.add_tokens`, a row from the spelling and from the residual of the pieces.

The baselines are unchanged words of the same lengths: `unseen`, of the run's own unseen tokens, and
`known`, words that always were one token and occur in no training question. The scores are those of
all tasks of the run on these words. The loss is in nats per byte of held-out text around the new
words. --train continues training of all parameters for that number of steps on text around the words.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import charembed
from benchmarks.measure import machine
from synthetic_tasks import SPLITS, Material, build_task, distinct, one_list, stream, usable_words
from training.ask.eval_sets import EvalSet
from training.ask.run_evaluation import evaluate_arm
from training.config.config import CompareConfig
from training.data.corpus import load_corpus, load_words
from training.data.prepare import Data
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput, exit_status
from training.models.precision import has_fast_bf16
from training.run.run import Run

ALL_WORDS = 1_000_000
WINDOW = 400  # characters of text around a word
Add = Callable[[Any, Any, list[str]], None]


def by_default(model: Any, tokenizer: Any, words: list[str]) -> None:
    torch.manual_seed(0)
    tokenizer.add_tokens([f" {word}" for word in words])
    model.resize_token_embeddings(len(tokenizer))


def pieces_of(tokenizer: Any, words: list[str]) -> list[list[int]]:
    return [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]


def of_pieces(model: Any, tokenizer: Any, words: list[str]) -> None:
    old = pieces_of(tokenizer, words)
    charembed.fold(model)
    first = len(tokenizer)
    by_default(model, tokenizer, words)
    with torch.no_grad():
        for table in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            for number, pieces in enumerate(old):
                table[first + number] = table[pieces].mean(0)


def with_letters(model: Any, tokenizer: Any, words: list[str]) -> None:
    by_default(model, tokenizer, words)
    charembed.update_spellings(model, tokenizer)


def of_pieces_with_letters(model: Any, tokenizer: Any, words: list[str]) -> None:
    table = model.get_input_embeddings().weight
    old = [table[pieces].mean(0) for pieces in pieces_of(tokenizer, words)]
    first = len(tokenizer)
    with_letters(model, tokenizer, words)
    with torch.no_grad():
        model.get_input_embeddings().weight[first : first + len(words)] = torch.stack(old)


def unchanged(model: Any, tokenizer: Any, words: list[str]) -> None:
    pass


UNSEEN, KNOWN, NEW = "unseen", "known", "new"
WAYS: dict[str, Add] = {
    UNSEEN: unchanged,
    KNOWN: unchanged,
    "as before": unchanged,
    "default": by_default,
    "pieces": of_pieces,
    "letters": with_letters,
    "both": of_pieces_with_letters,
    "add_tokens": charembed.add_tokens,
}
OF_LETTERS = ("letters", "both")  # ways that a model without letters cannot go


def of_lengths(lengths: Counter[int], words: list[str], key: str) -> list[str]:
    """Return that number of words of each length, or all if there are fewer."""
    found, rng = list[str](), stream(key)
    for letters, number in sorted(lengths.items()):
        fitting = [word for word in words if len(word) == letters]
        found += rng.sample(fitting, min(number, len(fitting)))
    return found


def compared_words(
    config: CompareConfig, data: Data, held_out: str, number: int
) -> dict[str, list[str]]:
    """Return words that no training question contained: of unseen tokens, new, and known words.

    The three lists have the same lengths. The new words have several tokens each and occur in the
    held-out text with any frequency.
    """
    assert data.splits is not None
    unseen = data.splits["unseen_tokens"]
    unseen = stream("unseen words").sample(unseen, min(number, len(unseen)))
    listed = usable_words(
        load_words(config.data.words, ALL_WORDS), config.data.min_letters, config.data.max_letters
    )
    in_text = set(listed) & set(held_out.split()) - set(data.splits.seen)
    several = sorted(word for word in in_text if len(data.tokenizer.encode_word(word)) > 1)
    others = [word for split in SPLITS[1:] for word in data.splits[split]]
    single = [word for word in others if len(data.tokenizer.encode_word(word)) == 1]
    lengths = Counter(map(len, unseen))
    return {
        UNSEEN: unseen,
        NEW: of_lengths(lengths, several, "new tokens"),
        KNOWN: of_lengths(lengths, single, "known tokens"),
    }


def windows(text: str, words: set[str], number: int) -> list[str]:
    """Return passages around the first occurrences of the words, evenly spread over the text."""
    places, at = [], 0
    for piece in text.split(" "):
        if piece in words:
            places.append(at)
        at += len(piece) + 1
    chosen = places[:: max(1, len(places) // number)][:number]
    return [text[max(0, place - WINDOW // 2) : place + WINDOW // 2] for place in chosen]


@torch.no_grad()
def nats_per_byte(model: Any, tokenizer: HuggingFaceTokenizer, texts: list[str]) -> float:
    model.eval()
    nats, size = 0.0, 0
    for text in texts:
        ids_1T = torch.tensor([tokenizer.encode(text)])
        nats += float(text_nats(model, ids_1T))
        size += len(text.encode())
    return nats / size


def text_nats(model: Any, ids_BT: Tensor) -> Tensor:
    logits = model(ids_BT).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="sum"
    )


def go_on(model: Any, tokenizer: HuggingFaceTokenizer, texts: list[str], steps: int) -> None:
    """Continue training of all parameters on text around the words, one window a row."""
    groups = charembed.param_groups(model, lr=5e-5, weight_decay=0.0)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    model.train()
    for step in range(steps):
        rng = stream("go on", step)
        for text in rng.sample(texts, 4):
            ids_1T = torch.tensor([tokenizer.encode(text)])
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16(cpu=True)):
                loss = text_nats(model, ids_1T) / ids_1T.numel()
            (loss / 4).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def scores(
    language_model: Any, config: CompareConfig, data: Data, words: list[str], questions: int
) -> dict[str, float]:
    """Return exact match per task on these words."""
    splits = one_list(words)
    material = Material(splits, config.data.wording, config.data.answer_form)
    tasks = [build_task(spec, material) for spec in config.data.tasks]
    exams = [
        EvalSet(task, "seen", distinct(task, "seen", questions, "new tokens")) for task in tasks
    ]
    rows, _ = evaluate_arm(language_model, data, exams, "", 0)
    return {
        row.task: row.value for row in rows if row.metric == "exact_match"
    }  # not of the work shown


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--questions", type=int, default=100, help="per task")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--train", type=int, default=0, help="steps on text around the words")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--arms", default="plain,lstm")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    ways = options.ways.split(",")
    if unknown := [way for way in ways if way not in WAYS]:
        raise BadInput(f"there is no way {unknown[0]!r}: choose from {', '.join(WAYS)}.")
    run = Run.open(options.run, options.cache)
    config, data = run.config, run.data
    texts = [
        load_corpus(name)
        for name in (config.data.corpus, config.evaluation.other_corpus)
        if name != "none"
    ]
    held_out = "\n\n".join(text.validation for text in texts)
    compared = compared_words(config, data, held_out, options.words)
    words = compared[NEW]
    around = windows(held_out, set(words), options.texts)
    learn = windows("\n\n".join(text.train for text in texts), set(words), 20 * options.texts)
    print(machine())
    print(
        f"{len(words)} new tokens ({', '.join(words[:6])}, ...), {len(around)} stretches of held-out text"
    )
    table = Table("arm", "rows", *config.data.tasks, "nats per byte")
    for arm in options.arms.split(","):
        for name in ways:
            if arm == "plain" and name in OF_LETTERS:
                continue
            language_model = run.arm(arm).model()
            model: Any = language_model.get_submodule("model")
            tokenizer = copy.deepcopy(data.tokenizer.source)
            WAYS[name](model, tokenizer, words)
            here = replace(run.arm(arm).data, tokenizer=HuggingFaceTokenizer(tokenizer))
            for steps in (0, options.train) if options.train else (0,):
                if steps:
                    go_on(model, here.tokenizer, learn, steps)
                right = scores(
                    language_model, config, here, compared.get(name, words), options.questions
                )
                loss = nats_per_byte(model, here.tokenizer, around)
                label = f"{name}, {steps} steps" if steps else name
                values = [f"{right[task]:.2f}" for task in right]
                table.add_row(arm, label, *values, f"{loss:.4f}")
                print(arm, label, *values, f"{loss:.4f}", flush=True)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))

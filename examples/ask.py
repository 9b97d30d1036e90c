"""Ask both arms of a finished run about a word of your choice.

python -m examples.ask                       # the newest run, then type words; empty line or Ctrl-D ends
python -m examples.ask --run runs/quick-1234abcd --word strawberry
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from rich.console import Console

from synthetic_tasks import SPLITS, WordTask, read_answer, usable_words
from training.config import CompareConfig
from training.data import Data, prepare
from training.evaluate import stop_ids
from training.folder import arm_folder, read_config
from training.models import LanguageModel
from training.objectives import OBJECTIVES, Asked
from training.run import load_arm


def newest_run(folder: Path = Path("runs")) -> Path:
    """The run that finished last. Raises ValueError when there is none."""
    finished = sorted(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise ValueError(
            f"there is no finished run in {folder}: make one with 'python -m training.compare', or name it "
            "with --run."
        )
    return finished[-1].parent


def words_to_ask(word: str | None) -> Iterator[str]:
    if word is not None:
        yield word
        return
    while True:
        try:
            typed = input("word: ").strip()
        except EOFError:
            return
        if not typed:
            return
        yield typed


def ask(
    word: str, models: dict[str, LanguageModel], config: CompareConfig, data: Data, console: Console
) -> None:
    """Put one question of each word task about a word to every arm, and print what they say."""
    tokenizer, splits, objective = data.tokenizer, data.splits, OBJECTIVES[config.objective]
    assert splits is not None
    held = [tokenizer.decode([token]) for token in tokenizer.encode_word(word) if token in data.held_out_ids]
    split = next((name for name in SPLITS if word in splits[name]), "not in the word list")
    console.print(
        f"[bold]{word}[/]  {split.replace('_', ' ')}{f', unseen: {held}' if held else ''}", highlight=False
    )
    for task in data.tasks:
        if not isinstance(task, WordTask):
            continue
        item = task.ask(word, task.recipe.kinds(word)[-1], Random(word))
        prompt = tokenizer.encode(item.prompt)
        room = max(1, min(config.context - len(prompt), 2 * len(item.answer)))
        asked = Asked(room=room, stop=stop_ids(tokenizer), dummy=data.dummy, context=config.context)
        console.print(f"  {item.prompt}  [dim]{item.answer.strip()}[/]", highlight=False)
        for arm, model in models.items():
            text = tokenizer.decode(objective.answers(model, [prompt], asked, lambda done: None)[0])
            mark = "[green]✓[/]" if task.is_right(text, item) else "[red]✗[/]"
            console.print(f"    {arm:8} {mark} {read_answer(text)}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="run folder (the newest in runs/)")
    parser.add_argument("--word", help="ask about this word and end")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    try:
        run = options.run or newest_run()
        config = read_config(run)
        data = prepare(config, options.cache)
        if data.splits is None:
            raise ValueError(f"the run in {run} asked no question about words: name another one with --run.")
        models = {
            arm: load_arm(config, config.first_seed, arm, arm_folder(run, config.first_seed, arm), data)
            for arm in config.arms
        }
        for word in words_to_ask(options.word):
            usable_words([word], 1, 40)
            ask(word, models, config, data, Console())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

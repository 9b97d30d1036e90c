"""Ask both arms of a finished run about a word of your choice.

python -m examples.ask                                 # the newest run, then type words; empty line or Ctrl-D ends
python -m examples.ask --run runs/quick-1234abcd --word strawberry
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from rich.console import Console
from torch import nn

from synthetic_tasks import TASKS, is_right, read_answer, render, usable_words
from training.compare import arm_folder
from training.config import CompareConfig
from training.data import Data, prepare
from training.evaluate import prompt_ids, stop_ids
from training.generate import generate
from training.run import load_arm


def newest_run(folder: Path = Path("runs")) -> Path:
    """The run that finished last. Raises ValueError when there is none."""
    finished = sorted(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise ValueError(f"there is no finished run in {folder}: make one with 'python -m training.compare', or name it with --run.")
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


def ask(word: str, models: dict[str, nn.Module], config: CompareConfig, data: Data, console: Console) -> None:
    """Put one question of each task about a word to every arm, and print what they say."""
    held = [
        piece.decode() for piece in map(data.encoding.decode_single_token_bytes, data.encoding.encode_ordinary(" " + word)) if piece in data.splits.held_out
    ]
    split = next((name for name in ("seen", "unseen_words", "unseen_tokens", "longer_words") if word in data.splits[name]), "not in the word list")
    console.print(f"[bold]{word}[/]  {split.replace('_', ' ')}{f', unseen: {held}' if held else ''}", highlight=False)
    for name in config.tasks:
        task = TASKS[name]
        question = task.ask(word, task.kinds(word)[-1], Random(word))
        rendered = render(question, task, wording=config.wording, form=config.answer_form, rng=Random(word))
        prompt = prompt_ids(data.encoding, rendered.prompt)
        room = min(config.finetune_context - len(prompt), 2 * len(rendered.answer))
        console.print(f"  {rendered.prompt}  [dim]{rendered.answer.strip()}[/]", highlight=False)
        for arm, model in models.items():
            answer = generate(model, [prompt], max_new_tokens=max(room, 1), stop=stop_ids(data.encoding), context=config.finetune_context)[0]
            text = data.encoding.decode(answer)
            mark = "[green]✓[/]" if is_right(text, rendered.answer) else "[red]✗[/]"
            console.print(f"    {arm:8} {mark} {read_answer(text)}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run folder (the newest in runs/)")
    parser.add_argument("--word", help="ask about this word and end")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    try:
        run = options.run or newest_run()
        if not (run / "config.json").is_file():
            raise ValueError(f"{run} is no run folder: it has no config.json.")
        saved = json.loads((run / "config.json").read_text("utf-8"))["config"]
        config = CompareConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()})
        data = prepare(config, options.cache)
        models = {arm: load_arm(config, config.first_seed, arm, arm_folder(run, config.first_seed, arm), data) for arm in config.arms}
        for word in words_to_ask(options.word):
            usable_words([word], 1, 40)
            ask(word, models, config, data, Console())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

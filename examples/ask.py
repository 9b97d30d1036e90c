"""Ask all arms of a finished run, or a pretrained causal model, about a word of your choice.

    python -m examples.ask                  # the newest run; type words, an empty line ends
    python -m examples.ask --run runs/quick-1234abcd --word strawberry
    python -m examples.ask --run HuggingFaceTB/SmolLM2-135M --word strawberry

Without standard input, as in a script, it asks about a word at which characters make a difference,
if the run has one. examples.playground does the same in a browser.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.flags import Parser, check_texts
from training.interrupts import Stop, run_program

if TYPE_CHECKING:  # torch takes seconds, which --help and wrong flags must not take
    from rich.console import Console

    from examples.asking import Panel


def words_to_ask(panel: Panel) -> Iterator[str]:
    """Yield the typed words, one a line; the first suggested word if there is no standard input."""
    example = next((suggestion.word for suggestion in panel.suggestions), None)
    if sys.stdin.isatty() and example:
        print(f"A word that shows the difference: {example}")
    typed = None
    while typed != "":
        try:
            typed = input("word: ").strip()
        except (EOFError, KeyboardInterrupt):
            if typed is None and example and not sys.stdin.isatty():
                yield example
            return
        if typed:
            yield typed


def ask(word: str, panel: Panel, console: Console) -> None:
    """Ask every model one question of each word task about a word, and print the answers."""
    from rich.markup import escape

    # All questions first: a word that does not fit is refused before anything is printed.
    questions = {task: panel.item(task, word) for task in panel.tasks}
    split = panel.split(word)
    unseen = [token.text for token in panel.tokens(word) if token.unseen]
    about = split.label if split else "not in the word list" if panel.splits else ""
    about += escape(f", unseen: {unseen}") if unseen else ""
    console.print(f"[bold]{word}[/]  {about}", highlight=False)
    for task, item in questions.items():
        prompt, written = escape(item.prompt), escape(item.written.strip())
        console.print(f"  {prompt}  [dim]{written}[/]", highlight=False)
        for name, answer in panel.answers(task, item):
            mark = "[green]✓[/]" if answer.right else "[red]✗[/]"
            # Apart from the mark: an answer may contain square brackets, which are rich's markup.
            console.print(f"    {escape(f'{name:8}')} {mark} ", end="")
            console.print(answer.text, highlight=False, markup=False)


def _run(argv: Sequence[str] | None, stop: Stop) -> None:
    parser = Parser("python -m examples.ask", __doc__)
    add = parser.add_argument
    add("--run", help="run folder, or folder or name of a model [the newest run in runs/]")
    add("--word", help="ask about this word and end")
    add("--seed", type=int, help="seed of a run [its first]")
    add("--cache", type=Path, default=Path(".cache"), help="the cache of the run [%(default)s]")
    options = parser.parse_args(argv)
    check_texts(options)
    from rich.console import Console

    from examples.asking import check_word, panel_of

    stop.at_once = False
    if options.word is not None:
        check_word(options.word)  # before the models are loaded, which takes longer
    panel = panel_of(options.run, options.seed, options.cache)
    for word in words_to_ask(panel) if options.word is None else [options.word]:
        ask(word, panel, Console())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0; 2 for bad input, 1 for a failure, 130 after a stop signal."""
    return run_program(lambda stop: _run(argv, stop))


if __name__ == "__main__":
    sys.exit(main())

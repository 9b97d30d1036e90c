"""Questions about one word to several models, for examples.ask and examples.playground.

The models are the arms of a finished run, queried as in their evaluation, or one pretrained causal
model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from charembed import ENCODERS
from synthetic_tasks import (
    WORD_TASKS,
    Item,
    Material,
    Split,
    WordSplits,
    WordTask,
    build_task,
    needs_words,
    read_answer,
)
from synthetic_tasks.word_tasks.word_task import word_and_arguments
from training.ask.answers import Answers, ask
from training.ask.eval_sets import EvalSet, make_eval_sets
from training.ask.evaluated_model import EvaluatedLanguageModel
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput
from training.evaluate.load import from_pretrained, run_limits
from training.models.huggingface import HuggingFace
from training.run.folder import is_run, read_config
from training.run.run import Run

LONGEST = 40  # letters of a word
SUGGESTED = 5  # suggested questions of a task


class Suggestion(NamedTuple):
    """A question that the arm with characters answered right in its evaluation, the control wrong.

    `letters` are the arguments of the question besides the word, in the form of `join_arguments`.
    """

    task: str
    word: str
    letters: str


class ShownAnswer(NamedTuple):
    """The text that a model generated, the answer parsed from it, and its score.

    `cut`: max_new_tokens ended the text.
    """

    generated: str
    text: str
    right: bool
    cut: bool


class Token(NamedTuple):
    """One token of a word. `unseen`: no training question contained it; None if that is unknown."""

    id: int
    text: str
    unseen: bool | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Models that answer the same questions about a word.

    Attributes:
        name: of the run, or of the pretrained model.
        models: by arm; a pretrained model by its name.
        tasks: word tasks by name.
        read: parses the answer from a generated text.
        seen_tokens: tokens of the run's training words; None for a pretrained model.
    """

    name: str
    models: dict[str, EvaluatedLanguageModel]
    tasks: dict[str, WordTask]
    read: Callable[[str], str] = read_answer
    seen_tokens: frozenset[int] | None = None
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def _first(self) -> EvaluatedLanguageModel:
        return next(iter(self.models.values()))

    @property
    def splits(self) -> WordSplits | None:
        """The words of the run; None for a pretrained model."""
        return self._first.material.words

    def item(self, task: str, word: str, letters: str = "") -> Item:
        """Return a question about a word, the same one each time.

        `letters` are its arguments besides the word, in the form of `join_arguments`; by default
        the task draws them. Raises BadInput or TaskError if there is no such question.
        """
        check_word(word)
        item = _drawn(self.tasks[task], word, letters)
        for name, model in self.models.items():
            # before the first model answers
            model.check([self._questions(task, self.item_for(name, task, item))])
        return item

    def item_for(self, model: str, task: str, item: Item) -> Item:
        """Return an item of `item` as a model was trained to read it.

        It is the item itself, except for arms whose questions also give the letters of the word.
        """
        material = self.models[model].material
        if not material.letters_in_prompts:
            return item
        word, *arguments = word_and_arguments(item)
        own = WordTask(self.tasks[task].recipe, material)
        # the wording is drawn after the arguments, if these were drawn too
        ways = ("", join_arguments(arguments))
        way = next(each for each in ways if _drawn(self.tasks[task], word, each) == item)
        return _drawn(own, word, way)

    def _questions(self, task: str, item: Item) -> EvalSet:
        return EvalSet(self.tasks[task], "all", [item], read=self.read)

    def answers(self, task: str, item: Item) -> Iterator[tuple[str, ShownAnswer]]:
        """Yield the name of each model and its answer."""
        for name, model in self.models.items():
            questions = self._questions(task, self.item_for(name, task, item))
            model.check([questions])  # sets max_new_tokens for this item
            answers = Answers([questions])
            ask(model, answers)
            (answer,) = answers.of(questions)
            text = self.read(answer.given)
            right = self.tasks[task].is_right(text, item)
            yield name, ShownAnswer(answer.given, text, right, answer.cut)

    def tokens(self, word: str) -> list[Token]:
        """Return the tokens of a word after a space, as a question contains it."""
        tokenizer = self._first.tokenizer
        found = []
        for token in tokenizer.encode_word(word):
            spelling = tokenizer.spellings[token]  # None for a token of special meaning
            text = spelling.decode(errors="replace") if spelling else tokenizer.decode([token])
            unseen = None if self.seen_tokens is None else token not in self.seen_tokens
            found.append(Token(token, text, unseen))
        return found

    def split(self, word: str) -> Split | None:
        """Return the split of the run that holds a word; None for a word outside its list."""
        words, splits = self.splits, next(iter(self.tasks.values())).splits
        # Any task will do: all word tasks have the same splits.
        return next((split for split in splits if words and word in words[split.name]), None)


def _drawn(task: WordTask, word: str, letters: str) -> Item:
    """Return a question about a word, the same one each time; see `Panel.item`."""
    # Seeded by task and word: the URL of a question gives the same question every time.
    rng = Random(f"{task.name} {word}")
    several = len(task.recipe.arguments) > 1 and " " not in letters
    arguments = list(letters) if several else letters.split()
    return task.ask_about(word, arguments, rng) if letters else task.ask(word, rng)


def check_word(word: str) -> None:
    """Raise BadInput for anything but 1 to LONGEST lower-case letters."""
    wrong = "".join(dict.fromkeys(re.sub("[a-z]", "", word)))
    if not word:
        seen = "Nothing was typed"
    elif wrong:
        seen = f"{_short(word)!r} has {_short(wrong)!r} in it"
    elif len(word) > LONGEST:
        seen = f"{_short(word)!r} has {len(word)} letters"
    else:
        return
    raise BadInput(f"{seen}: type one word of 1 to {LONGEST} lower-case letters from a to z.")


def _short(text: str) -> str:
    # A message repeats the typed text, which may have any length.
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def newest_run(folder: Path = Path("runs")) -> Path:
    """Return the run that finished last. Raises BadInput if there is none."""
    finished = sorted(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise BadInput(
            f"There is no finished run in {folder}. Make one with 'python -m training.compare', "
            "or name a run in another folder."
        )
    return finished[-1].parent


def panel_of(name: str | None, seed: int | None, cache: Path) -> Panel:
    """Load the panel of a run folder (None: the newest in runs/) or of a pretrained causal model.

    Raises BadInput for a name that is neither.
    """
    if name is None or is_run(name):
        return panel_of_run(newest_run() if name is None else Path(name), seed, cache)
    if seed is not None:
        raise BadInput(f"seed is {seed}, but {name!r} is no run folder. Leave --seed out.")
    try:
        return panel_of_model(name)
    except BadInput as error:
        raise BadInput(f"{name!r} is no run folder, and {error}") from None


def panel_of_run(folder: Path, seed: int | None, cache: Path) -> Panel:
    """Load the arms of one seed of a run.

    Raises BadInput if the run is not finished or has no task about words.
    """
    if not needs_words(read_config(folder).data.tasks):
        raise BadInput(f"The run in {folder} has no task about words. Name another run.")
    run = Run.open(folder, cache)
    data, seed = run.data, run.arm(None, seed).seed
    assert data.splits is not None
    # Not Data.held_out_ids: tokens outside the splits are unseen too.
    seen = {token for word in data.splits.seen for token in data.tokenizer.encode_word(word)}
    name, limits = folder.resolve().name, run_limits(data, seed)
    return Panel(
        name=f"{name}, seed {seed}" if run.config.seeds > 1 else name,
        models={
            # the data of the arm: a rival may have prompts of its own
            arm: EvaluatedLanguageModel.of_arm(one.model(), one.data, arm, seed, run_limits=limits)
            for arm in run.config.arms
            for one in [run.arm(arm, seed)]
        },
        tasks={task.name: task for task in data.tasks if isinstance(task, WordTask)},
        seen_tokens=frozenset(seen),
        suggestions=tuple(suggestions(run, seed)),
    )


def panel_of_model(name: str) -> Panel:
    """Load a pretrained causal model, with prompts that are sentences.

    It was not trained to end its answers, so the first word that it generates counts.
    """
    model, tokenizer = HuggingFace.load(name, 1).eval(), HuggingFaceTokenizer.load(name)
    material = Material(wording="sentences", form="plain")
    # Not spell: as one word, the spelling of a word is the word itself.
    built = (build_task(task, material) for task in WORD_TASKS if task != "spell")
    called = Path(name).name
    return Panel(
        name=name,
        models={called: from_pretrained(model, tokenizer, called, material=material)},
        tasks={task.name: task for task in built if isinstance(task, WordTask)},
        read=first_word,
    )


def join_arguments(arguments: Sequence[str]) -> str:
    """Join the arguments of a question: ["n", "b"] -> "nb", ["x", "10"] -> "x 10"."""
    return ("" if all(len(one) == 1 for one in arguments) else " ").join(arguments)


def first_word(text: str) -> str:
    """Return the first word or number of a text; letters with spaces between them are one word.

    " ananab, which is" -> "ananab"; " a n a n a b." -> "ananab"
    """
    found = re.search(r"\w(?:[ -]\w)*\b|\w+", text)
    return re.sub("[ -]", "", found[0]) if found else ""


def suggestions(run: Run, seed: int) -> Iterator[Suggestion]:
    """Yield some questions of the split unseen_tokens at which characters make the difference.

    In the run's evaluation, the first arm with characters was right and the control (the first
    arm) wrong. Raises Damaged if the answers of an arm are damaged.
    """
    control, *others = run.config.arms
    with_characters = next((arm for arm in others if arm in ENCODERS), control)
    if control in ENCODERS or with_characters == control:
        return
    ours, theirs = (
        # by key: a rival may have prompts of its own; older runs have no keys, and no such arms
        {
            (line["task"], line.get("key", line["prompt"])): line["right"]
            for line in run.arm(arm, seed).answers()
        }
        for arm in (with_characters, control)
    )
    for eval_set in make_eval_sets(run.data, seed):
        task, found = eval_set.task.name, dict[str, Suggestion]()
        for item in eval_set.items if eval_set.split == "unseen_tokens" else ():
            place = (task, item.key if (task, item.key) in ours else item.prompt)
            if ours.get(place) and not theirs.get(place, True):
                _, *arguments, word = item.key.split()
                # one question a word, and the first ones: suggestions are the same every time
                found.setdefault(word, Suggestion(task, word, join_arguments(arguments)))
        yield from list(found.values())[:SUGGESTED]

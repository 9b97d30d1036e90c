"""Whom one can ask about words, and what is known of a word: for examples.ask and examples.playground.

The models are the arms of a finished run, asked as their exam asked them, or one pretrained causal model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

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
from training.ask.eval_sets import set_exams, stop_ids
from training.config.config import CompareConfig
from training.data.prepare import Data
from training.data.questions import encode_item
from training.data.tokenizers import HuggingFaceTokenizer, Tokenizer
from training.errors import BadInput
from training.models.huggingface import HuggingFace
from training.models.language_model import LanguageModel
from training.models.objectives import OBJECTIVES, Asked, Objective
from training.run.arm import load_arm
from training.run.finished import ANSWERS, finished_lines
from training.run.folder import arm_folder, is_run, open_run, read_config

LONGEST = 40  # letters of a word to ask about
SLACK = 4  # tokens that an answer may be longer than the right one, before it is cut short
ROWS = 512  # tokens read of a pretrained model's context: no question comes near
EACH = 5  # suggested questions of a task


@dataclass(frozen=True)
class Suggestion:
    """A question that the arm with letters answered right in its exam, and the control wrong.

    `letters` is what it names besides the word, as `written` writes it.
    """

    task: str
    word: str
    letters: str


@dataclass(frozen=True)
class Answer:
    """All that one model `wrote`, and the answer in it. `cut`: it was stopped before its end."""

    wrote: str
    text: str
    right: bool
    cut: bool


@dataclass(frozen=True)
class Token:
    """One token of a word. `unseen`: no training question contained it; None where that is not known."""

    id: int
    text: str
    unseen: bool | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Models that answer the same questions about a word.

    Attributes:
        name: of the run, or of the pretrained model.
        models: by their arm, or the one by its name.
        tasks: the word tasks, by name.
        read: takes the answer out of what a model wrote.
        stop: tokens that end an answer.
        dummy, context: as in training.models.objectives.Asked.
        splits, familiar: the run's words, and the tokens of its training words; None where not known.
    """

    name: str
    models: dict[str, LanguageModel]
    tasks: dict[str, WordTask]
    tokenizer: Tokenizer
    objective: Objective
    read: Callable[[str], str]
    stop: frozenset[int]
    dummy: int
    context: int
    splits: WordSplits | None = None
    familiar: frozenset[int] | None = None
    suggestions: tuple[Suggestion, ...] = ()

    def item(self, task: str, word: str, letters: str = "") -> Item:
        """A question about a word, the same one each time. What it names besides, as `written` writes it, is
        drawn by the task where it is not said.

        Raises BadInput and TaskError for what cannot be asked.
        """
        check_word(word)
        asked, rng = self.tasks[task], Random(f"{task} {word}")
        several = len(asked.recipe.arguments) > 1 and " " not in letters
        named = list(letters) if several else letters.split()
        item = asked.ask_about(word, named, rng) if letters else asked.ask(word, rng)
        if self._room(item) < 1:
            raise BadInput(
                f"the question about {word!r} and its answer do not fit the {self.context} tokens that this "
                "model reads: take a shorter word."
            )
        return item

    def answers(self, task: str, item: Item) -> Iterator[tuple[str, Answer]]:
        """The name of each model and its answer."""
        prompt, room = self.tokenizer.encode(item.prompt), self._room(item)
        asked = Asked(room=room, stop=self.stop, dummy=self.dummy, context=self.context)
        for name, model in self.models.items():
            ids = self.objective.answers(model, [prompt], asked, lambda done: None)[0]
            wrote = self.tokenizer.decode(ids)
            text = self.read(wrote)
            yield name, Answer(wrote, text, self.tasks[task].is_right(text, item), len(ids) == room)

    def tokens(self, word: str) -> list[Token]:
        """The tokens of a word as it stands in a question, after a space."""
        found = []
        for token in self.tokenizer.encode_word(word):
            piece = self.tokenizer.spellings[token]
            text = (
                self.tokenizer.decode([token])
                if piece is None
                else piece.decode("utf-8", "replace")
            )
            found.append(
                Token(token, text, None if self.familiar is None else token not in self.familiar)
            )
        return found

    def split(self, word: str) -> Split | None:
        """The split of the run that the word belongs to; None for a word that is not in its list."""
        if self.splits is None:
            return None
        splits = next(iter(self.tasks.values())).splits  # the same of every word task
        return next((split for split in splits if word in self.splits[split.name]), None)

    def _room(self, item: Item) -> int:
        """Tokens left for an answer. An end mark after the last of them is not needed."""
        answer = encode_item(self.tokenizer, item)[1]
        room = self.context - len(self.tokenizer.encode(item.prompt))
        return 0 if room < len(answer) else min(room, len(answer) + SLACK)


def check_word(word: str) -> None:
    """Raises BadInput for what is no word that a task can ask about."""
    wrong = "".join(dict.fromkeys(re.sub("[a-z]", "", word)))
    if not word:
        seen = "nothing was typed"
    elif wrong:
        seen = f"{_short(word)!r} has {_short(wrong)!r} in it"
    elif len(word) > LONGEST:
        seen = f"{_short(word)!r} has {len(word)} letters"
    else:
        return
    raise BadInput(f"{seen}: type one word of 1 to {LONGEST} lower-case letters from a to z.")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def newest_run(folder: Path = Path("runs")) -> Path:
    """The run that finished last. Raises BadInput when there is none."""
    finished = sorted(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise BadInput(
            f"there is no finished run in {folder}: make one with 'python -m training.compare', or name one "
            "that lies elsewhere."
        )
    return finished[-1].parent


def panel_of(name: str | None, seed: int | None, cache: Path) -> Panel:
    """The panel of a run folder (None: the newest in runs/), or of a pretrained causal model.

    Raises BadInput for a name that is neither.
    """
    if name is None or is_run(name):
        return panel_of_run(newest_run() if name is None else Path(name), seed, cache)
    if seed is not None:
        raise BadInput(f"seed is {seed}, but {name!r} is no run folder: leave --seed out.")
    try:
        return panel_of_model(name)
    except BadInput as error:
        raise BadInput(f"{name!r} is no run folder, and {error}") from None


def panel_of_run(run: Path, seed: int | None, cache: Path) -> Panel:
    """The arms of a run, one seed of it. Raises BadInput for a run that is not finished, or not about
    words."""
    config = read_config(run)
    seed = config.first_seed if seed is None else seed
    if seed not in config.seed_range:
        seeds = ", ".join(map(str, config.seed_range))
        raise BadInput(
            f"seed is {seed}, but the run in {run} has the seeds {seeds}: name one of them."
        )
    if not needs_words(config.data.tasks):
        raise BadInput(f"the run in {run} asked no question about words: name another one.")
    _, data = open_run(run, cache)
    assert data.splits is not None
    return Panel(
        name=f"{run.resolve().name}, seed {seed}" if config.seeds > 1 else run.resolve().name,
        models={
            arm: load_arm(config, seed, arm, arm_folder(run, seed, arm), data)
            for arm in config.arms
        },
        tasks={task.name: task for task in data.tasks if isinstance(task, WordTask)},
        tokenizer=data.tokenizer,
        objective=OBJECTIVES[config.objective],
        read=read_answer,
        stop=stop_ids(data.tokenizer),
        dummy=data.dummy,
        context=config.context,
        splits=data.splits,
        familiar=frozenset(
            token for word in data.splits.seen for token in data.tokenizer.encode_word(word)
        ),
        suggestions=tuple(suggestions(run, config, data, seed)),
    )


def panel_of_model(name: str) -> Panel:
    """A pretrained causal model with its own tokenizer, asked in sentences. It was not taught where an answer
    ends: of what it writes, the first word counts."""
    model = HuggingFace.load(name, 1).eval()
    tokenizer = HuggingFaceTokenizer.load(name)
    end = {tokenizer.source.eos_token_id} - {None}
    asked = [
        task for task in WORD_TASKS if task != "spell"
    ]  # a spelling in one piece is the word itself
    built = (build_task(task, Material(wording="sentences", form="plain")) for task in asked)
    return Panel(
        name=name,
        models={Path(name).name: model},
        tasks={task.name: task for task in built if isinstance(task, WordTask)},
        tokenizer=tokenizer,
        objective=OBJECTIVES["next_token"],
        read=first_word,
        stop=stop_ids(tokenizer) | end,
        dummy=0,
        context=min(model.context or ROWS, ROWS),
    )


def written(named: Sequence[str]) -> str:
    """What a question names besides its word, as one text: ["n", "b"] -> "nb", ["x", "10"] -> "x 10"."""
    return ("" if all(len(thing) == 1 for thing in named) else " ").join(named)


def first_word(text: str) -> str:
    """The first word or number of a text; letters that stand apart are one word.

    " ananab, which is" -> "ananab"; " a n a n a b." -> "ananab"
    """
    found = re.search(r"\w(?:[ -]\w)*\b|\w+", text)
    return re.sub("[ -]", "", found[0]) if found else ""


def suggestions(run: Path, config: CompareConfig, data: Data, seed: int) -> Iterator[Suggestion]:
    """Questions of the split unseen_tokens that tell letters from none, a few of each task: the first arm
    with letters was right in its exam, and the control (the run's first arm) wrong.
    """
    control = config.arms[0]
    letters = next((arm for arm in config.arms if arm in ENCODERS), control)
    if control in ENCODERS or letters == control:
        return
    with_letters, without = (_exam(run, seed, arm) for arm in (letters, control))
    for exam in set_exams(config, data, seed):
        if exam.split == "unseen_tokens":
            telling: dict[str, Suggestion] = {}
            for item in exam.items:
                asked = exam.task.name, item.prompt
                if with_letters.get(asked) and not without.get(asked, True):
                    _, *named, word = item.key.split()
                    telling.setdefault(word, Suggestion(exam.task.name, word, written(named)))
            yield from list(telling.values())[:EACH]


def _exam(run: Path, seed: int, arm: str) -> dict[tuple[str, str], bool]:
    """Which questions of the split unseen_tokens an arm answered right, by task and prompt.

    Raises Damaged for a file that does not say so.
    """
    rows = finished_lines(arm_folder(run, seed, arm), ANSWERS)
    return {
        (row["task"], row["prompt"]): row["right"]
        for row in rows
        if row["split"] == "unseen_tokens"
    }

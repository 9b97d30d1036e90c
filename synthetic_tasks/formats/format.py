"""The interface of a benchmark: load its files, read its tasks or imitate them, and score answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import zip_longest
from pathlib import Path
from random import Random

from synthetic_tasks.draws import distinct_draws
from synthetic_tasks.errors import TaskError, read_text
from synthetic_tasks.scoring import END, majority_baseline, read_answer
from synthetic_tasks.task import Item, Subject
from synthetic_tasks.word_tasks.letters import place_of_letter
from synthetic_tasks.words import usable_words

from .tables import Rows, Tables


@dataclass(frozen=True)
class PromptFormat:
    """The way a prompt is put to a model, and the end of its answer.

    Attributes:
        chat: send the prompt as one user message in the model's chat template. A model without a
            template reads the prompt as it is.
        system: system message before the prompt, if there is a chat template; "" for none.
        opening: beginning of the answer, put after the template: ' Answer: "'.
        max_new_tokens: None for the length of the longest right answer.
        stop: text that ends an answer, besides the model's end of text; "" for none.
        greedy: no text is generated: the answer is right if each of its tokens is the most likely
            one after the tokens before it.
        stop_without_chat: the same for a model without a chat template, which goes on with examples
            of its own; None for `stop`.
        ends_choice: the likelihood of a choice includes the model's end-of-text token behind it.
    """

    chat: bool = False
    system: str = ""
    opening: str = ""
    max_new_tokens: int | None = None
    stop: str = END
    stop_without_chat: str | None = None
    greedy: bool = False
    ends_choice: bool = False

    def stop_of(self, with_template: bool) -> str:
        """Return the stop text of a model with or without a chat template."""
        uses_chat = self.chat and with_template
        return self.stop if uses_chat or self.stop_without_chat is None else self.stop_without_chat

    def as_dict(self) -> dict[str, object]:
        """Return the fields under the names that evaluations hash."""
        # Subtle: "room" is the old name of max_new_tokens; a new key would refuse old evaluations.
        fields = asdict(self)
        # The questions are the same whatever ends their answers.
        del fields["stop_without_chat"]
        fields["room"] = fields.pop("max_new_tokens")
        order = ("chat", "system", "opening", "room", "stop")
        # A field that most formats do not have is no part of their hash.
        rare = {name: True for name in ("greedy", "ends_choice") if fields[name]}
        return {name: fields[name] for name in order} | rare


# The arguments of a question -> the word that it is about; None if it is about none.
About = Callable[..., Subject | None]


def no_word(*arguments: str) -> Subject | None:
    """Return None: the questions of a task are not about one word."""
    return None


def word_first(word: str, *letters: str) -> Subject:
    """Return the first argument, and the place of the letter if just one is named.

    word_first("banana", "n") -> Subject("banana", 2)
    """
    return Subject(word, place_of_letter(word, *letters))


def word_last(*arguments: str) -> Subject:
    """Return the last argument as the word: word_last("n", "b", "tea") -> Subject("tea")."""
    *letters, word = arguments
    return word_first(word, *letters)


@dataclass(frozen=True, eq=False)  # by identity: a hash of thousands of items would be slow
class BenchmarkTask:
    """One task of a benchmark.

    BenchmarkTask("cute/spell", items, PromptFormat(chat=True), read=between_quotes)

    Items with `choices` are answered by likelihood: the likeliest choice is the answer. All others
    are answered by a generated text.

    Attributes:
        items: their keys are the task's name and the arguments of the question, separated by tabs:
            "cute/sub_char\\ta\\tb\\tbanana".
        read: parses the answer from a generated text; returns None if it cannot be parsed.
        equal: compares a parsed answer with the right one, both without surrounding space.
        keeps_blanks: compare both as they are, with the blanks around them.
        about: finds the word of a question among its arguments, for scores by word length.
        own_score: the benchmark's own score, from 0 to 1, of a parsed answer (None if there is
            none) and the right one, if it has one besides exact match.
        note: a fact about the files, printed with the scores: "words.txt has the SHA-256 2d8c...".
    """

    name: str
    items: tuple[Item, ...]
    prompt_format: PromptFormat = PromptFormat()
    read: Callable[[str], str | None] = read_answer
    equal: Callable[[str, str], bool] = str.__eq__
    about: About = no_word
    keeps_blanks: bool = False
    own_score: Callable[[str | None, str], float] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.items:
            raise TaskError(f"the task {self.name!r} has no items. Name a file with some.")

    def is_right(self, given: str, item: Item) -> bool:
        """Return whether a generated text, or the likeliest choice, answers the item."""
        # A choice is an option of the item: there is nothing to parse.
        found = given if item.choices else self.read(given)
        if found is None:
            return False
        if self.keeps_blanks:  # all but the space before an answer, which is this project's
            return self.equal(found, item.answer.removeprefix(" "))
        return self.equal(found.strip(), item.answer.strip())

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        """Return no further scores: benchmarks are scored as their authors do."""
        return {}

    def subject(self, item: Item) -> Subject | None:
        """Return the word that an item is about; None if it is about none, or about several."""
        return self.about(*arguments_of(item))

    def baseline(self, items: Sequence[Item]) -> float:
        """Return the accuracy of the majority baseline, or of a random choice if that is higher."""
        majority = majority_baseline([item.answer for item in items])
        chance = sum(1 / len(item.choices) for item in items if item.choices) / len(items)
        return max(majority, chance)

    def copy_baseline(self, items: Sequence[Item]) -> float:
        """Return the accuracy of the best rule that always copies the n-th argument."""
        # OLMES's answers begin with a quote.
        answers = [item.answer.strip().removeprefix('"').strip() for item in items]
        # Items may differ in their number of arguments.
        places = zip_longest(*map(arguments_of, items))
        right = [0]
        for place in places:
            copies = [(copy, a) for copy, a in zip(place, answers, strict=True) if copy is not None]
            right.append(sum(self.equal(copy.strip(), answer) for copy, answer in copies))
        return max(right) / len(items)


# (words, items per task, seed) -> tasks
Generate = Callable[[Sequence[str], int, int], list[BenchmarkTask]]


@dataclass(frozen=True)
class Format:
    """The format of a benchmark.

    FORMATS["cute"].read(FORMATS["cute"].load(Path("CUTE")))[0].name -> "cute/spell"

    Attributes:
        source: paper and repository.
        files: shell pattern of a file name -> parser of (name, text), which raises TaskError, with
            the name, if the text has no rows: {"*.tsv": table}. A pattern with folders,
            "*/spell.tsv", is for files of the same name; their tables are named "zh/spell.tsv".
        read: turns the benchmark's rows into tasks with the authors' prompts and scoring. Raises
            TaskError, with the name of the file, if the rows do not belong to the benchmark.
        generate: (words, n, seed) -> an imitation: the same tasks with n items each, about these
            words and in this project's wording; their names begin with "<format>-like/". Item i
            depends on the words, the seed and i alone. Raises TaskError if the words give fewer
            items.
        markings: other rules of scoring that are in use: name -> function from a task to the same
            task with that rule, under another name, "cute@paper/spell".
        other_folders: folders of the benchmark's repository that are not read: they hold other
            files of the same names.
        packaged: for a benchmark whose items come with an installed package: (source of a spec, its
            tasks) -> a generator of its own items; None if the source is a path.
    """

    name: str
    source: str
    files: Mapping[str, Callable[[str, str], Rows]]
    read: Callable[[Tables], list[BenchmarkTask]]
    generate: Generate
    markings: Mapping[str, Callable[[BenchmarkTask], BenchmarkTask]] = field(default_factory=dict)
    other_folders: tuple[str, ...] = ()
    packaged: Callable[[str, Sequence[str]], Generate | None] | None = None

    def load(self, path: Path) -> dict[str, Rows]:
        """Read the format's files from a folder and its subfolders, or from one file.

        Raises TaskError if the path does not exist or has no such file, if two files have the same
        name, or if a file is damaged.
        """
        if not path.exists():
            raise TaskError(f"{path} does not exist. Name a folder with the files of {self.name}.")
        found: dict[str, Rows] = {}
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if set(file.relative_to(path).parts[:-1]).intersection(self.other_folders):
                continue
            # The first pattern that fits; fnmatchcase ignores the system's rules for case.
            fitting = (
                (_last_parts(file, pattern.count("/") + 1), parse)
                for pattern, parse in self.files.items()
                if fnmatchcase(_last_parts(file, pattern.count("/") + 1), pattern)
            )
            name, parse = next(fitting, ("", None))
            # Tables are found by name, so a second one would replace the first.
            if parse is not None and name in found:
                raise TaskError(f"{path} has more than one {name}. Name one folder.")
            if parse is not None:
                found[name] = parse(str(file), read_text(file))
        if not found:
            wanted = f"{', '.join(self.files)}, from {self.source}"
            raise TaskError(f"{path} has no file of {self.name}. Name a folder with {wanted}.")
        return found


def _last_parts(file: Path, number: int) -> str:
    """Return the name of a file with the folders before it: (a/b/c.tsv, 2) -> "b/c.tsv"."""
    # The folder of a link, not of the file that it points to: the hub's cache has such links.
    folders = file.parent.resolve().parts
    return "/".join((*folders[len(folders) - number + 1 :], file.name))


def key_of(task: str, *arguments: str) -> str:
    """Join an item's key: the task and the arguments of the question in their order."""
    return "\t".join((task, *arguments))


def arguments_of(item: Item) -> list[str]:
    """Return the arguments of a question: "cute/del_char\\ta\\tbanana" -> ["a", "banana"]."""
    return item.key.split("\t")[1:]


def tasks_of(
    names: Iterable[str],
    items: Iterable[Item],
    prompt_format: PromptFormat,
    read: Callable[[str], str | None] = read_answer,
    equal: Callable[[str, str], bool] = str.__eq__,
    about: Mapping[str, About] | About = no_word,
) -> list[BenchmarkTask]:
    """Group items by the task in their keys, in the order of `names`; omit tasks without items.

    `about`: of all tasks, or by the part of their names after "/".
    """
    grouped: dict[str, list[Item]] = {name: [] for name in names}
    for item in items:
        grouped[item.key.split("\t")[0]].append(item)
    found = [(name, tuple(members)) for name, members in grouped.items() if members]
    by_task = about if isinstance(about, Mapping) else defaultdict(lambda: about)
    return [
        BenchmarkTask(name, members, prompt_format, read, equal, by_task[name.partition("/")[2]])
        for name, members in found
    ]


def draw_items(
    names: Iterable[str], n: int, seed: int, draw: Callable[[str, Random], Item]
) -> list[Item]:
    """Draw n different items of each task by draw(name, rng). Raises TaskError if one has fewer."""
    drawn: list[Item] = []
    for name in names:
        items = distinct_draws(partial(draw, name), n, name, seed)
        if len(items) < n or not n:  # a task without items could not be scored
            found = f"{len(items)} different questions in these words, and needs {n}"
            raise TaskError(
                f"{name} finds {found}. Pass more words, or ask for fewer (at least 1)."
            )
        drawn += items
    return drawn


def words_for(format_name: str, words: Sequence[str], least: int, most: int = 100) -> list[str]:
    """Return the lower-case ASCII words of `least` to `most` letters, each once.

    Raises TaskError if fewer than five are left.
    """
    usable = usable_words(words, least, most)
    if len(usable) < 5:
        wanted = f"five or more lower-case ASCII words of {least} to {most} letters"
        raise TaskError(
            f"{format_name} can use {len(usable)} of {len(words)} words. Pass {wanted}."
        )
    return usable

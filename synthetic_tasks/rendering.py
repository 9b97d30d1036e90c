"""From a question to the text a model reads, and the text it should write."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .task import Question, Task

END = "\n"  # closes every answer, so that a model can say that it is done
WORDINGS = ("compact", "sentences")
ANSWER_FORMS = ("plain", "spelled")
QUESTION_PREFIXES = ("", "Question: ", "Q: ", "Task: ", "Exercise: ")
JOINTS = (" ", "\n", " \n")
ANSWER_PREFIXES = ("", "Answer: ", "A: ", "Solution: ", "Result: ")


@dataclass(frozen=True)
class Rendered:
    """prompt "reverse tea:", answer " a e t"; the model's whole text is prompt + answer + END."""

    prompt: str
    answer: str

    @property
    def text(self) -> str:
        return self.prompt + self.answer + END


def write_answer(answer: str, form: str) -> str:
    """ "aet", "spelled" -> " a e t"; "aet", "plain" -> " aet"; numbers alike in both."""
    return " " + (" ".join(answer) if form == "spelled" and answer.isalpha() else answer)


def render(question: Question, task: Task, *, wording: str = "compact", form: str = "spelled", rng: Random) -> Rendered:
    """Put a question into words.

    "compact": one fixed short wording. "sentences": prefix, one of the task's questions, joint, prefix and one of its
    answer beginnings, each drawn from `rng`.
    """
    letters = dict(zip("ab", question.letters, strict=False))
    answer = write_answer(question.answer, form)
    if wording == "compact":
        return Rendered(task.compact.format(word=question.word, **letters), answer)
    asked = rng.choice(QUESTION_PREFIXES) + rng.choice(task.questions).format(word=question.word, **letters)
    return Rendered(asked + rng.choice(JOINTS) + rng.choice(ANSWER_PREFIXES) + rng.choice(task.answers), answer)


def all_wordings(task: Task, wording: str) -> list[str]:
    """Every text that can stand around a word, with a stand-in word: what a split by tokens must keep out of its hands."""
    stand_in = {"word": "q", "a": "q", "b": "q"}
    if wording == "compact":
        return [task.compact.format(**stand_in)]
    asked = [prefix + question.format(**stand_in) for prefix in QUESTION_PREFIXES for question in task.questions]
    answered = [joint + prefix + answer for joint in JOINTS for prefix in ANSWER_PREFIXES for answer in task.answers]
    return asked + answered

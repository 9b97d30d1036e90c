"""Training objectives: the training row of a question, and the decoding of an answer.

Each objective is an entry of OBJECTIVES. The loss is on the tokens of the answer alone;
every_prefix also has it on the running answers within the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch

from .generate import check_prompts, chunks, evaluating, generate
from .language_model import LanguageModel


class Example(NamedTuple):
    """A training row: inputs, a target for each position, and the first position of the loss.

    The inputs may include the end mark; no prediction that counts depends on it.
    """

    inputs: list[int]
    targets: list[int]
    first: int


class GenerationSettings(NamedTuple):
    """The limits of a generated answer.

    Attributes:
        max_new_tokens, stop: the most tokens of an answer, and the ids that end it. Objectives that
            decode one token at a time take one of each for every prompt, too.
        dummy: the token in place of unknown ones (teacherless).
        context: tokens of prompt and answer together, at most.
        keep_stop: whether the answer includes its stop token, if tokens are generated in order.
    """

    max_new_tokens: int | Sequence[int]
    stop: frozenset[int] | Sequence[frozenset[int]]
    dummy: int
    context: int
    keep_stop: bool = False


Rows = list[list[int]]  # token ids
Progress = Callable[[int], object]  # called with the number of new answers


class EncodedQuestion(NamedTuple):
    """The token ids of a question and of its answer.

    Attributes:
        answer: ends with its end mark.
        dummy: a token for positions that are not known yet.
        running: the answers after each of the prompt's last tokens, if any (`Item.running`).
    """

    prompt: list[int]
    answer: list[int]
    dummy: int = 0
    running: Sequence[int] = ()


class NextToken:
    """Predict each token of the answer from all tokens before it; decode one token at a time.

    Attributes:
        needs_running: whether `arrange` needs `EncodedQuestion.running`.
    """

    needs_running = False

    def arrange(self, question: EncodedQuestion) -> Example:
        """prompt [5, 6], answer [7, 8] -> [5, 6, 7, 8], targets [6, 7, 8], from place 1 on."""
        # the last token of the prompt predicts the first one of the answer
        prompt, answer, *_ = question
        ids = prompt + answer
        return Example(ids, ids[1:], len(prompt) - 1)

    def answers(
        self, model: LanguageModel, prompts: Rows, settings: GenerationSettings, progress: Progress
    ) -> Rows:
        """Decode the answer to each prompt, without its end mark."""
        limits = settings._asdict()
        del limits["dummy"]  # no token is unknown here
        return generate(model, prompts, progress=progress, **limits)


class Reversed(NextToken):
    """As next_token, with the answer's tokens in reverse order; decoding reverses them back."""

    def arrange(self, question: EncodedQuestion) -> Example:
        # the end mark stays last, or decoding would not know where to stop
        *letters, end = question.answer
        return super().arrange(question._replace(answer=[*reversed(letters), end]))

    def answers(
        self, model: LanguageModel, prompts: Rows, settings: GenerationSettings, progress: Progress
    ) -> Rows:
        answers = super().answers(model, prompts, settings._replace(keep_stop=False), progress)
        return [answer[::-1] for answer in answers]


class EveryPrefix(NextToken):
    """As next_token, with a loss at each of the prompt's last tokens too, on its running answer.

    For tasks with running answers of one token each, such as counting. A sequence of n symbols
    gives n questions in one row, and the running answers are never inputs.
    """

    needs_running = True

    def arrange(self, question: EncodedQuestion) -> Example:
        """prompt [4, 5, 6, 5], answer [8, 1], running [7, 7, 8] -> inputs [4, 5, 6, 5, 8, 1],
        targets [5, 7, 7, 8, 1], from place 1 on.
        """
        prompt, answer, _, running = question
        # targets are one place ahead of their inputs
        first = len(prompt) - len(running)
        return Example(prompt + answer, [*prompt[1 : first + 1], *running, *answer[1:]], first)


class Teacherless:
    """Predict all tokens of the answer at once, from the prompt and a dummy for each of them.

    Bachmann & Nagarajan 2024 (arXiv 2403.06963), after Monea et al. 2023.
    """

    needs_running = False

    def arrange(self, question: EncodedQuestion) -> Example:
        """prompt [5, 6], answer [7, 8] -> inputs [5, 6, dummy], targets [6, 7, 8], from 1 on."""
        prompt, answer, dummy, _ = question
        return Example(prompt + [dummy] * (len(answer) - 1), prompt[1:] + answer, len(prompt) - 1)

    @torch.no_grad()
    def answers(
        self, model: LanguageModel, prompts: Rows, settings: GenerationSettings, progress: Progress
    ) -> Rows:
        length, stop = settings.max_new_tokens, settings.stop
        assert isinstance(length, int), "all answers are as long"
        assert isinstance(stop, frozenset), stop
        check_prompts(prompts, length, settings.context)
        written: Rows = [[] for _ in prompts]
        device = next(model.parameters()).device
        dummies = [settings.dummy] * (length - 1)
        with evaluating(model):
            for numbers in chunks(prompts):
                rows = [prompts[number] + dummies for number in numbers]
                ids_BT = torch.tensor(rows, device=device)
                keep_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
                keep_BT[:, -length:] = True
                tokens = model(ids_BT, keep_BT).argmax(-1).view(len(numbers), length).tolist()
                for number, row in zip(numbers, tokens, strict=True):
                    written[number] = list(takewhile(lambda token: token not in stop, row))
                progress(len(numbers))
        return written


Objective = NextToken | Teacherless
OBJECTIVES: dict[str, Objective] = {
    "next_token": NextToken(), "reversed": Reversed(),
    "teacherless": Teacherless(), "every_prefix": EveryPrefix(),
}  # fmt: skip

"""Score answers: read the answer from a generated text, compare it, correct for guessing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .errors import TaskError

END = "\n"  # ends every answer in training, so that a model learns to stop
_RESULT_SIGN = " = "  # separates the scratchpad from the result


def read_answer(generated: str) -> str:
    """Return the text before the end mark, without surrounding space.

    " a e t\\nreverse" -> "a e t"
    """
    return generated.split(END, 1)[0].strip()


def read_work(generated: str) -> tuple[str, str]:
    """Split an answer at the last " = " into its scratchpad and its result.

    " b a n = 2\\nindex" -> ("b a n", "2")

    Both spaces are required. Without the sign both parts are empty: " b a n =2" -> ("", "").
    """
    # The added space accepts an empty scratchpad, "= 2". The last sign counts: a model that
    # corrects itself may write several.
    work, sign, result = (" " + read_answer(generated)).rpartition(_RESULT_SIGN)
    return (work.strip(), result.strip()) if sign else ("", "")


def same_in_any_case(found: str, answer: str) -> bool:
    """Compare two texts without regard to case."""
    return found.lower() == answer.lower()


def majority_baseline(answers: Sequence[str]) -> float:
    """Return the share of the most frequent answer: ["1", "1", "2"] -> 0.667.

    Raises TaskError if there are no answers.
    """
    if not answers:
        raise TaskError("there are no answers to score; draw at least one item.")
    return Counter(answers).most_common(1)[0][1] / len(answers)


def corrected(score: float, majority: float) -> float:
    """Rescale a score so that the majority baseline is 0 and a perfect score is 1.

    corrected(0.8, 0.6) -> 0.5: half of the range that guessing leaves open

    The formula is (score - majority) / (1 - majority), Cohen's kappa (1960) with the majority
    baseline as chance agreement. Limits: a score below the baseline is negative, without a lower
    bound. The steps between possible scores grow with the baseline, and so does an interval (the
    formula applies to its ends too). A guess that uses the question, such as the length of the
    word, is not corrected for.

    Raises TaskError if `majority` is not in [0, 1): at 1 every model has the same score.
    """
    if not 0 <= majority < 1:  # also refuses NaN
        raise TaskError(
            f"the majority baseline is {majority}; it must be at least 0 and below 1. "
            "Draw questions with more than one right answer."
        )
    return (score - majority) / (1 - majority)

"""Any model asked about letters: python -m training.evaluate MODEL, or `evaluate(model, "letters")`.

The two names are read when they are asked for: the command hears a Ctrl-C before it imports for seconds.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluation import Evaluation as Evaluation
    from .evaluation import evaluate as evaluate

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import evaluation

    return getattr(evaluation, name)

"""Any model asked about letters: python -m training.evaluate MODEL, or `evaluate(model, "letters")`."""

from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate

"""Evaluate a model on spelling: python -m training.evaluate MODEL.

From Python: `from training.evaluate.evaluation import evaluate`. Nothing is imported here, so that
the command handles Ctrl-C, and prints --help, before it imports for seconds.
"""

LETTERS = "letters"  # the suite of word tasks
QUESTIONS = 250  # per task and split, if the user names no number
MOST_QUESTIONS, MOST_SHOTS = 1_000_000, 1_000  # more would be drawn for hours

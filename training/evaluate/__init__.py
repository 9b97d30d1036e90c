"""Evaluate a model on spelling: python -m training.evaluate MODEL.

From Python: `from training.evaluate.evaluation import evaluate`. Nothing is imported here, so that
the command handles Ctrl-C before it imports for seconds.
"""

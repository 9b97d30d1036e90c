"""Evaluation sets, generated answers and scores. Constants of --help are here: no torch is needed."""

BATCH = 128  # questions answered together

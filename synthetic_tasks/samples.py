"""Some hundred plain words, for looking at the tasks without a word list."""

from pathlib import Path

SAMPLE_WORDS = tuple(Path(__file__).with_name("sample_words.txt").read_text("utf-8").split())

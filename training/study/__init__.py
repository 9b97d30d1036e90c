"""Published experiments, each a grid of runs: python -m training.study NAME."""

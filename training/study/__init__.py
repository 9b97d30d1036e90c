"""The neighbouring experiments, grids of runs of this laboratory: python -m training.study NAME."""

"""Published experiments, each a grid of runs: python -m training.study NAME."""

# The keys of studies.STUDIES; here, so that --help needs no torch.
NAMES = (
    "counting",
    "counting_mfc",
    "path_star",
    "functions",
    "learning_rates",
    "map",
    "text",
    "parent",
    "lexical",
)

"""Probe an embedding table for the spelling of its tokens: python -m training.probe MODEL."""

# Here, so that --help needs no torch.
PROBES = "letter", "contains", "length", "spell"
MOST_SPLITS = 1000

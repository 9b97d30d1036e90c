"""What an embedding table knows of its spelling: python -m training.probe MODEL."""

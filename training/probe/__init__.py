"""Probe an embedding table for the spelling of its tokens: python -m training.probe MODEL."""

"""Errors that a user can cause. All are ValueErrors; each message has the value seen and the
fix."""

from __future__ import annotations


class CharEmbedError(ValueError):
    """Base of charembed's own errors."""


class AttachError(CharEmbedError):
    """The model cannot take a character encoder, or does not have one."""


class SpellingError(CharEmbedError):
    """The spellings of the tokens cannot be determined, or do not fit the embedding."""


class CheckpointError(CharEmbedError):
    """A saved part is missing, damaged, or of a format that this version cannot load."""


class MismatchError(CharEmbedError):
    """A saved part is intact but belongs to another tokenizer, base or encoder."""

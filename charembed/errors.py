"""What a user can get wrong. All are ValueErrors; each message says what was seen and the way out."""

from __future__ import annotations


class CharEmbedError(ValueError):
    """Base of charembed's own errors."""


class AttachError(CharEmbedError):
    """The model cannot take, or does not have, a character part."""


class SpellingError(CharEmbedError):
    """The letters of the tokens cannot be read, or do not fit the embedding."""


class CheckpointError(CharEmbedError):
    """Saved files are missing, damaged, or of a format that this version does not know."""


class MismatchError(CharEmbedError):
    """Saved files are whole, but belong to another tokenizer or another model."""

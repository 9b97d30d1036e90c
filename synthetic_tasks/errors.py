"""What a user can get wrong."""

from __future__ import annotations


class TaskError(ValueError):
    """Words, sizes or splits from which no questions can be made; the message names the way out."""


class NoQuestion(TaskError):
    """A split has words, and none that the task can ask about."""

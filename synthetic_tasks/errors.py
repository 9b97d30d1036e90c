"""Errors that a user can cause."""

from __future__ import annotations


class TaskError(ValueError):
    """Words, sizes, files or splits that give no questions; the message says what to change."""


class NoQuestion(TaskError):
    """A split has words, but the task has no question about any of them."""

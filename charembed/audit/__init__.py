"""Audit words: their tokens, and the gain and the cost of each as a token of its own.

`charembed.audit` is the function, `python -m charembed.audit` the command.
"""

from .asking import FEW_SHOT as FEW_SHOT
from .report import Audit as Audit
from .report import AuditedWord as AuditedWord
from .words import audit as audit

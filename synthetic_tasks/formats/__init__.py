"""Published benchmarks: read from their own files, or imitated offline. Standard library only.

A new format is a file in this folder and a line here.
"""

from . import (
    charbench,
    cute,
    execute,
    langgame,
    nanochat,
    reasoning_gym,
    spelling_bee,
    strawberry_bench,
)
from .format import BenchmarkTask as BenchmarkTask
from .format import Format as Format
from .format import PromptFormat as PromptFormat
from .tables import Rows as Rows
from .tables import Tables as Tables
from .tables import as_rows as as_rows

_MODULES = (
    *(cute, charbench, nanochat, spelling_bee, langgame),
    *(reasoning_gym, strawberry_bench, execute),
)
_FORMATS = (*(module.FORMAT for module in _MODULES), langgame.END_FORMAT)
FORMATS: dict[str, Format] = {form.name: form for form in _FORMATS}

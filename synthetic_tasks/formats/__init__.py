"""Published benchmarks: read from their own files, or imitated offline. Standard library only.

A new format is a file in this folder and a line here.
"""

from . import (
    charbench,
    cute,
    cute_hub,
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
    *(cute, cute_hub, charbench, nanochat, spelling_bee, langgame),
    *(reasoning_gym, strawberry_bench, execute),
)
FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _MODULES}

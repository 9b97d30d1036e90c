"""Published benchmarks: read from their own files, or imitated offline. Standard library only.

A new format is a file in this folder and a line here.
"""

from . import charbench, cute, cute_hub, langgame, nanochat, spelling_bee
from .format import BenchmarkTask as BenchmarkTask
from .format import Format as Format
from .format import PromptFormat as PromptFormat
from .tables import Rows as Rows
from .tables import Tables as Tables
from .tables import as_rows as as_rows

_MODULES = (cute, cute_hub, charbench, nanochat, spelling_bee, langgame)
FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _MODULES}

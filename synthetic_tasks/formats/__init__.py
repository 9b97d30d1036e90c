"""Benchmarks of the field in their own formats: read from their own files, or made offline. Standard library
only.

A new format is its file beside this one and a line here.
"""

from . import charbench, cute, langgame, nanochat, spelling_bee
from .format import File as File
from .format import Format as Format
from .tables import Rows as Rows
from .tables import as_rows as as_rows

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (cute, charbench, nanochat, spelling_bee, langgame)
}

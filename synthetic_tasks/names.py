"""Names for the symbols of a sequence and the nodes of a graph, and the sizes in a task's spec.

With the space before it, each name is one token of a byte-level BPE of a few thousand tokens of English, and of the
published vocabularies: letters first, without those that open few words, then pairs of letters that open many.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "a b c d e f g h j k l m n o p r s t u v w y z A B C D E F G H I J K L M N O P R S T U V W Y"
PAIRS = (
    "ab ac ad ag al am an ap ar as at be bl bo br bu by ca ce ch cl co cr de di do dr ef el em en er ev ex fa fe fi fl "
    "fo fr fu ga ge gl go gr gu ha he hi ho if im in ir is it jo ju ke kn la le li lo ma me mi mo mu my na ne ni no ob oc "
    "of on op or ou pa pe ph pl po pr qu ra re ri ro sa sc se sh si so sp st su sw ta te th ti to tr tw un up ur us va "
    "ve vi wa we wh wi wo wr"
)
NAMES = (*LETTERS.split(), *PAIRS.split())


def read_sizes(name: str, sizes: str, forms: Sequence[str], rule: str) -> tuple[int, ...]:
    """The sizes in a spec, "2x5" -> (2, 5), as many as one of the forms ("MxN", "M") has letters.

    Raises ValueError, with the forms and the rule, for anything else.
    """
    numbers = tuple(map(int, sizes.split("x"))) if re.fullmatch("[0-9]{1,4}(x[0-9]{1,4})*", sizes) else ()
    if len(numbers) not in {form.count("x") + 1 for form in forms}:
        raise bad_sizes(name, sizes, forms, rule)
    return numbers


def bad_sizes(name: str, sizes: str, forms: Sequence[str], rule: str) -> ValueError:
    written = " or ".join(f"{name}:{form}" for form in forms)
    return ValueError(f"the task {f'{name}:{sizes}'!r} has sizes that cannot be: write {written}, {rule}.")

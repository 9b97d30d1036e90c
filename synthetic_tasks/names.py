"""Names for the symbols of a sequence and the nodes of a graph, and the sizes in a task's spec.

With the space before it each name is one token, of the quick preset's 4,096 and of GPT-4's vocabulary:
letters first, without those that open few words, then pairs of letters that open many.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import TaskError

LETTERS = (
    "a b c d e f g h j k l m n o p r s t u v w y z A B C D E F G H I J K L M N O P R S T U V W Y"
)
PAIRS = (
    "ab ac ad ag al am an ar as at av aw be bl bo br bu by ca ce ch cl co cr de do ed el em en er ev ex "
    "fa fe fl fo fu gl go gr gu ha he if im in ir is it ke la le li lo ma me mo my ne no ob of on op or "
    "pa pe ph pl po pr qu ra re ro ru sa sc se sh sk sl sm so sp st su sy ta te th to tr tw ty un up "
    "ur us ut ve wa we wh"
)
NAMES = (*LETTERS.split(), *PAIRS.split())


def read_sizes(name: str, sizes: str, forms: Sequence[str], rule: str) -> tuple[int, ...]:
    """The sizes in a spec, "2x5" -> (2, 5), as many as one of the forms ("MxN", "M") has letters.

    Raises TaskError, with the forms and the rule, for anything else.
    """
    numbers = (
        tuple(map(int, sizes.split("x"))) if re.fullmatch("[0-9]{1,4}(x[0-9]{1,4})*", sizes) else ()
    )
    if len(numbers) not in {form.count("x") + 1 for form in forms}:
        raise bad_sizes(name, sizes, forms, rule)
    return numbers


def bad_sizes(name: str, sizes: str, forms: Sequence[str], rule: str) -> TaskError:
    written = " or ".join(f"{name}:{form}" for form in forms)
    return TaskError(
        f"the task {f'{name}:{sizes}'!r} has sizes that cannot be: write {written}, {rule}."
    )

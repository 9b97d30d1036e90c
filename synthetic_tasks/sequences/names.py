"""Names of symbols and graph nodes, and the parser of sizes in a spec.

With a space before it each name is one token, both in the quick preset's vocabulary of 4,096 and in
GPT-4's. Letters come first, without those that begin few words, then pairs that begin many.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synthetic_tasks.errors import TaskError

LETTERS = "a b c d e f g h j k l m n o p r s t u v w y z"
LETTERS += " A B C D E F G H I J K L M N O P R S T U V W Y"
_PAIRS = (
    "ab ac ad ag al am an ar as at av aw be bl bo br bu by ca ce ch cl co cr de do ed el em en er "
    "ev ex fa fe fl fo fu gl go gr gu ha he if im in ir is it ke la le li lo ma me mo my ne no ob "
    "of on op or pa pe ph pl po pr qu ra re ro ru sa sc se sh sk sl sm so sp st su sy ta te th to "
    "tr tw ty un up ur us ut ve wa we wh"
)
NAMES = (*LETTERS.split(), *_PAIRS.split())


def read_sizes(name: str, sizes: str, forms: Sequence[str], rule: str) -> tuple[int, ...]:
    """Parse the sizes of a spec: "2x5" -> (2, 5). Their number must be that of a form, "MxN".

    Raises TaskError for anything else.
    """
    numbers: tuple[int, ...] = ()
    # At most four digits: checks such as M ** N stay cheap.
    if re.fullmatch("[0-9]{1,4}(x[0-9]{1,4})*", sizes):
        numbers = tuple(map(int, sizes.split("x")))
    if len(numbers) not in {form.count("x") + 1 for form in forms}:
        raise bad_sizes(name, sizes, forms, rule)
    return numbers


def bad_sizes(name: str, sizes: str, forms: Sequence[str], rule: str) -> TaskError:
    """Return the error for impossible sizes, with the forms and the rule."""
    written = " or ".join(f"{name}:{form}" for form in forms)
    spec = f"{name}:{sizes}"
    return TaskError(f"the task {spec!r} has impossible sizes. Write {written}: {rule}.")

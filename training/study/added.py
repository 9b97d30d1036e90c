"""The scores of the map's cells on words that became tokens after training, in a file of each arm.

`added_tokens.json` is no part of the arm's own files: a finished run of any version gets it, and
the identity of an arm stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.ask.added_tokens import WAYS, Added, ask_about_words, new_words, words_in_pieces
from training.data.prepare import Data
from training.errors import BadInput, Damaged
from training.files import read_record, write_record
from training.intervals import Row
from training.run.run import ArmRun

ADDED = "added_tokens.json"
WORDS = 200  # that become tokens; a run with fewer such words uses all of them


def words_of(data: Data, number: int = WORDS) -> list[str]:
    """The words that become tokens, the same for all arms and seeds of a run."""
    if data.config.model.pretrained:
        return []  # a pretrained model grows by charembed.add_tokens: benchmarks/new_tokens.py
    return new_words(data, min(number, len(words_in_pieces(data))))


def measure_added(arm: ArmRun, words: Sequence[str]) -> None:
    """Ask a finished arm about the words in all WAYS, and write the scores; once per arm.

    Raises Damaged if the arm's weights are missing or changed.
    """
    if not words or added_of(arm) is not None:
        return
    questions = arm.run.config.evaluation.questions
    found = {
        # a model of its own for each way: its table grows
        way: ask_about_words(arm.model(), arm.data, arm.name, arm.seed, words, way, questions)
        for way in WAYS
    }
    record = {
        "run": arm.identity,
        "words": list(words),
        "rows": [row.saved for one in found.values() for row in one.rows],
        "right": {way: one.right for way, one in found.items()},
    }
    write_record(arm.folder / ADDED, record)


def added_of(arm: ArmRun) -> dict[str, Added] | None:
    """Return the scores of an arm by way; None if they were not measured for this arm.

    A file that is damaged or of another arm counts as missing: it is made again in seconds.
    """
    try:
        record = read_record(arm.folder / ADDED)
    except (Damaged, BadInput):
        return None
    if record.get("run") != arm.identity:
        return None
    rows = [Row(**row) for row in record["rows"]]
    return {
        way: Added([row for row in rows if row.split == way], right)
        for way, right in record["right"].items()
    }

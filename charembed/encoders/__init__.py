"""The encoders by name. To add one, write a file beside this one and add a line to ENCODERS.

ENCODERS["gru"](spellings, dim=768, hidden_size=256)     # a GRUEncoder
"""

from __future__ import annotations

from typing import Any

from .bag import BagEncoder as BagEncoder
from .bee import BeeEncoder as BeeEncoder
from .cnn import CNNEncoder as CNNEncoder
from .gru import GRUEncoder as GRUEncoder
from .lstm import LSTMEncoder as LSTMEncoder
from .transformer import TransformerEncoder as TransformerEncoder

# Saved parts hold these names. Users may add classes of their own at run time.
ENCODERS: dict[str, Any] = {
    "lstm": LSTMEncoder,
    "gru": GRUEncoder,
    "cnn": CNNEncoder,
    "bag": BagEncoder,
    "bee": BeeEncoder,
    "transformer": TransformerEncoder,
}

"""The encoders by name. A new one is a file beside this one and a line here."""

from __future__ import annotations

from typing import Any

from .bag import BagEncoder as BagEncoder
from .bee import BeeEncoder as BeeEncoder
from .cnn import CNNEncoder as CNNEncoder
from .gru import GRUEncoder as GRUEncoder
from .lstm import LSTMEncoder as LSTMEncoder
from .transformer import TransformerEncoder as TransformerEncoder

ENCODERS: dict[str, Any] = {
    "lstm": LSTMEncoder,
    "gru": GRUEncoder,
    "cnn": CNNEncoder,
    "bag": BagEncoder,
    "bee": BeeEncoder,
    "transformer": TransformerEncoder,
}

"""Character embeddings for GPT-style models: each token's vector also depends on its spelling.

charembed.attach(model, tokenizer)        # the outputs do not change until the first update
...                                       # train as before
charembed.save(model, "char_embedding")   # the character encoder alone
charembed.fold(model)                     # write the character vectors into a plain model
"""

from .attach import attach as attach
from .attach import detach as detach
from .attach import disabled as disabled
from .attach import update_spellings as update_spellings
from .audit import Audit as Audit
from .audit import audit as audit
from .checkpoint import load as load
from .checkpoint import save as save
from .embedding import CharEmbedding as CharEmbedding
from .encoder import CharEncoder as CharEncoder
from .encoders import ENCODERS as ENCODERS
from .encoders import BagEncoder as BagEncoder
from .encoders import BeeEncoder as BeeEncoder
from .encoders import CNNEncoder as CNNEncoder
from .encoders import GRUEncoder as GRUEncoder
from .encoders import LSTMEncoder as LSTMEncoder
from .encoders import TransformerEncoder as TransformerEncoder
from .errors import AttachError as AttachError
from .errors import CharEmbedError as CharEmbedError
from .errors import CheckpointError as CheckpointError
from .errors import MismatchError as MismatchError
from .errors import SpellingError as SpellingError
from .export import complete_config as complete_config
from .export_rows import export_rows as export_rows
from .fold import fold as fold
from .low_fisher import project_to_low_fisher as project_to_low_fisher
from .new_tokens import add_tokens as add_tokens
from .parameters import ParameterCounts as ParameterCounts
from .parameters import count_parameters as count_parameters
from .parameters import freeze_base as freeze_base
from .parameters import param_groups as param_groups
from .parameters import parameters as parameters
from .parameters import print_trainable_parameters as print_trainable_parameters
from .peft_config import peft_config as peft_config
from .rows_base import check_rows as check_rows
from .scale import set_scale as set_scale
from .spelling import SpellingTable as SpellingTable
from .spelling import spell as spell
from .spelling_loss import SpellingHeads as SpellingHeads
from .spelling_report import SpellingReport as SpellingReport
from .spelling_report import check_spellings as check_spellings
from .version import __version__ as __version__
from .warm_up import warm_up as warm_up

# Names of version 0.1. They are not aliases: an error with the new name is found at once, and an
# alias would have to be removed later.
_RENAMED = {
    "set_gain": "set_scale",
    "quieten": "project_to_low_fisher",
    "respell": "update_spellings",
}


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        raise AttributeError(
            f"charembed.{name} is called charembed.{_RENAMED[name]} since version 0.2."
        )
    raise AttributeError(f"module 'charembed' has no attribute {name!r}")

"""Give a GPT-style model the letters of its tokens.

charembed.attach(model, tokenizer)      # nothing changes until the first update
...                                     # train as before
charembed.fold(model)                   # a plain model again, with the letters inside
"""

from .attach import attach as attach
from .attach import detach as detach
from .attach import fold as fold
from .attach import param_groups as param_groups
from .attach import parameters as parameters
from .embedding import CharEmbedding as CharEmbedding
from .encoder import LSTMEncoder as LSTMEncoder
from .spelling import SpellingTable as SpellingTable

"""Questions about letters, and their marking. Standard library only."""

from .questions import TASKS as TASKS
from .questions import QuestionPool as QuestionPool
from .questions import stream as stream
from .rendering import Rendered as Rendered
from .rendering import all_wordings as all_wordings
from .rendering import render as render
from .scoring import is_right as is_right
from .scoring import majority_baseline as majority_baseline
from .scoring import read_answer as read_answer
from .task import Question as Question
from .task import Task as Task
from .words import SPLITS as SPLITS
from .words import WordSplits as WordSplits
from .words import split_words as split_words
from .words import usable_words as usable_words

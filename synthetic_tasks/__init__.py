"""Questions about letters, and the scoring of answers. Standard library only."""

from .draws import distinct as distinct
from .draws import stream as stream
from .registry import TASKS as TASKS
from .registry import WORD_TASKS as WORD_TASKS
from .registry import build_task as build_task
from .registry import needs_words as needs_words
from .registry import split_weight as split_weight
from .scoring import END as END
from .scoring import corrected as corrected
from .scoring import read_answer as read_answer
from .scoring import read_work as read_work
from .task import ANSWER_FORMS as ANSWER_FORMS
from .task import WORDINGS as WORDINGS
from .task import Item as Item
from .task import Material as Material
from .task import Split as Split
from .task import Subject as Subject
from .task import Task as Task
from .word_tasks.word_task import WordTask as WordTask
from .words import SPLITS as SPLITS
from .words import WORD_FORMS as WORD_FORMS
from .words import WordSplits as WordSplits
from .words import one_list as one_list
from .words import sort_words as sort_words
from .words import split_words as split_words
from .words import usable_words as usable_words

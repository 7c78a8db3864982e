"""What notebook 00 uses of the package: each name, from the module that defines it."""

from mome.facts.fact import split
from mome.facts.shipped import shipped_facts
from mome.files.environment import work_folder
from mome.lm.generation import greedy_answers, hallucinated
from mome.memory.answers import answer_questions
from mome.memory.memorize import memory_settings
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric
from mome.replication.notebook.session import Session
from mome.replication.paper.start_here.chat import chat
from mome.replication.paper.start_here.figure import one_fact
from mome.replication.paper.start_here.looking import same_bits, token_losses
from mome.replication.paper.start_here.questions import as_told, fetched, known_to, right

__all__ = [
    "Session",
    "answer_questions",
    "as_told",
    "chat",
    "check",
    "fetched",
    "greedy_answers",
    "hallucinated",
    "known_to",
    "memory_settings",
    "metric",
    "one_fact",
    "right",
    "same_bits",
    "shipped_facts",
    "split",
    "token_losses",
    "work_folder",
]

"""Made-up questions with choices, for the tests of what scores them."""

from mome.facts.public_sets import MultipleChoice
from mome.replication.scoring.multiple_choice import Asked

ROCKS = MultipleChoice("1", "Which rock floats?", ("Basalt", "Pumice", "Slate", "Chalk"), (1,), "high_school_rocks", "")
SEA = MultipleChoice("2", "Is the sea\nsalty?", ("No", "At times", "Ask it", "Yes"), (3,), "high_school_rocks", "")
TEXTS = ("Lima", "the capital of Mali, they say", "No", "1815 or so; nobody knows", "in Peru, Mali and Iran")


def questions(count: int = 5) -> list[Asked]:
    """Made-up questions of odd lengths, each with all `TEXTS` as choices, the first and third of them correct."""
    contexts = [f"Q: {'And ' * index}what is the capital of Peru{'?' * (index + 1)}\nA:" for index in range(count)]
    choices = tuple(f" {text}" for text in TEXTS)
    item = MultipleChoice("0", "What?", TEXTS, (0, 2), "made up", "")
    return [Asked(item, context, choices) for context in contexts]

"""A memory of eight facts on the tiny random backbone, to edit, and everything of it that an edit may change."""

import copy
from pathlib import Path
from typing import Any

import torch
from tiny_memory import UNRELATED, learn, memorize, memory_model, settings, tuner

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.memory.editing.editor import Editor
from mome.memory.editing.out_of_scope import OutOfScope
from mome.memory.memory import Memory

KEY = Fact("key", "Where is the spare key?", "under the pot", ("Where do we keep the spare key?",))
CODE = Fact("code", "Which code opens the cellar?", "7719K")
CAT = Fact("cat", "What is the cat called?", "Tom", ("Name of the cat?", "How do we call the cat?"), ("The cat is?",))

TRAINING = {"target_loss": 0.2, "repair_loss": 0.3, "prompt_dropout": 0.0, "state_noise": 0.0}


def make_memory(backbone: Backbone, folder: Path, facts: list[Fact], **changes: Any) -> Memory:
    """The facts memorized in two wordings, with a null key, on a copy of the backbone that `folder` holds.

    Each process trains it once, which takes three seconds; what a caller gets is a copy of its own.
    """
    torch.set_num_threads(1)
    key = (id(backbone), folder, tuple(facts), repr(changes))
    if key not in MADE:
        MADE[key] = (backbone, train_memory(backbone, folder, facts, **changes))
    return copy.deepcopy(MADE[key][1])


MADE: dict[Any, tuple[Backbone, Memory]] = {}  # each backbone is kept, so that no other one gets its id


def train_memory(backbone: Backbone, folder: Path, facts: list[Fact], **changes: Any) -> Memory:
    """What `make_memory` copies."""
    model = memory_model(backbone, **changes)
    learn(model, backbone, facts)
    memorize(model, backbone, facts, settings(wordings=2), others=UNRELATED, false_alarms=0.0)
    attached = Backbone(str(folder), model.eval(), backbone.tokenizer)
    out_of_scope = OutOfScope.read(model, backbone.tokenizer, UNRELATED, 0.0)
    return Memory(attached, editor=Editor.start(attached, facts, training=TRAINING, out_of_scope=out_of_scope))


def exchange_rows(memory: Memory, fact: Fact, other: Fact) -> None:
    """Give the rows of `fact` the values of those of `other`: it is recognized, and answered as `other` is."""
    assert memory.editor is not None
    bank, rows = tuner(memory.backbone.model).bank, memory.editor.holdings.rows
    to, source = (torch.tensor(rows[each.id]).sort().values for each in (fact, other))
    bank.write(to, bank.read(source, torch.device("cpu")))


def state(memory: Memory) -> dict[str, Any]:
    """Rows with steps and optimizers' state, anchors, null key, facts, and whose the anchors and rows are."""
    mome, editor = tuner(memory.backbone.model), memory.editor
    assert editor is not None
    held = editor.holdings
    anchors = {f"anchors/{name}": values for name, values in mome.router.anchors.tensors().items()}
    copies = {name: values.clone() for name, values in {**mome.bank.members(), **anchors}.items()}
    known = {"facts": memory.facts, "owners": [*held.owners], "rows": {**held.rows}, "asked": {**held.asked}}
    return {"tensors": copies, "min_score": mome.router.min_score, **known}


def same_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two states agree in every bit; tables of zeros count like none."""
    names = one["tensors"].keys() | other["tensors"].keys()
    for name in names:
        first, second = one["tensors"].get(name), other["tensors"].get(name)
        if first is None or second is None:
            rest = second if first is None else first
            if rest is not None and rest.any():
                return False
        elif not torch.equal(first, second):
            return False
    return {**one, "tensors": None} == {**other, "tensors": None}


def answers_of(memory: Memory, fact: Fact) -> list[str]:
    """What each tuned wording of the fact gets."""
    return [answer.text for answer in memory.ask_all(fact.wordings())]

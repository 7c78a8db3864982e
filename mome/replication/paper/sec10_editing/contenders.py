"""The methods that are edited: memory experts, LoRA, full fine-tuning, retrieval and ROME, with one signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.files.records import Amount, Count, Settings
from mome.lm.generation import greedy_answers
from mome.memory.answers import answer_questions
from mome.memory.editing.editor import Editor
from mome.memory.editing.holdings import EditError, as_tuned
from mome.memory.editing.out_of_scope import OutOfScope
from mome.memory.memory import Memory
from mome.replication.methods.method import ABSTAINS
from mome.replication.methods.reader import trained_reader
from mome.replication.methods.retrieval import Retrieval
from mome.replication.methods.rome import Rome, RomeSettings
from mome.replication.methods.search import Bm25, Tfidf
from mome.replication.methods.tuned import Tuned
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.paper.sec10_editing.measures import EditingMethod
from mome.replication.paper.sec10_editing.stream import UPDATE, Stream, StreamEdit
from mome.train.attach import router_facts, trained_memory
from mome.train.settings import AUGMENTED, LONG_ROUTER, LoraSettings, MemorySettings, RouterSettings, TuningSettings

MOME, LORA, FULL, RAG, INDEX, ROME = "mome", "lora", "full", "rag", "index", "rome"
METHODS = (MOME, LORA, FULL, RAG, INDEX, ROME)


class EditingPlan(Settings):
    """How each method holds facts and edits them.

    `full` and `lora` tune the held facts, then each edit until its mean loss is under the stop loss, at most as many
    epochs as `edit_epochs`: an epoch is one step on all wordings of the fact. Full fine-tuning has the learning rate of
    notebook 08, LoRA that of notebook 01. `router_questions` of the shipped facts train the router and, in so many
    `exercises`, RAG's reader; half as many others set the rejection threshold (a quarter that of BM25); none is of
    the stream. The reader's settings are those of notebook 09, the router's were chosen on seed 3 (LOG.md).
    """

    unseeded = ("memory",)  # `memory_of` takes the plan's own seed

    full: TuningSettings = TuningSettings(learning_rate=5e-4, stop_loss=0.05)
    lora: TuningSettings = TuningSettings(learning_rate=2e-3, stop_loss=0.05)
    edit_epochs: Count = 25
    wordings: Count = 4
    adapter: LoraSettings = LoraSettings()
    mome: MomeConfig = MomeConfig(num_experts=2**20)
    router: RouterSettings = LONG_ROUTER
    memory: MemorySettings = MemorySettings.model_validate({"wordings": 4, **AUGMENTED})
    router_questions: Count = 4_000
    reader: TuningSettings = TuningSettings(epochs=2, learning_rate=1e-3)
    exercises: Count = 16_000
    passages: Count = 1
    rome: RomeSettings = RomeSettings()
    rome_text: Count = 2_000
    seed: Amount = 0


def contender(method: str, backbone: str, stream: Stream, plan: EditingPlan) -> EditingMethod:
    """The method with the stream's held facts memorized.

    ROME cannot memorize hundreds of facts, so it edits the plain backbone; it holds what that knows.

    Raises:
        ValueError: an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    makers: dict[str, Any] = {
        **{MOME: Experts, LORA: Weights.lora, FULL: Weights.full},
        **{RAG: Passages, INDEX: Passages.index, ROME: RankOne},
    }
    made: EditingMethod = makers[method](backbone, stream, plan)
    return made


class Experts:
    """Memory experts with `memory.add` and `memory.update`; a refused edit changes nothing."""

    def __init__(self, backbone: str, stream: Stream, plan: EditingPlan) -> None:
        self.memory = memory_of(backbone, stream.held, plan, stream.wordings)
        self.model, self.tokenizer = self.memory.backbone.model, self.memory.backbone.tokenizer

    def answer(self, questions: Sequence[str]) -> list[str]:
        # what the experts say by themselves: a check against the stored answers would hide what they lost
        return [answer.text for answer in answer_questions(self.memory.backbone, questions)]

    def apply(self, edit: StreamEdit) -> bool:
        try:
            (self.memory.update if edit.kind == UPDATE else self.memory.add)(edit.fact)
        except EditError:
            return False
        return True

    def mark(self) -> Callable[[], None]:
        number = len(self.memory.history())

        def back() -> None:
            self.memory.rollback(number)

        return back


class Weights:
    """A tuned backbone (LoRA or all weights) that is tuned on each edited fact, from the weights it has by then."""

    def __init__(self, tuned: Tuned, stream: Stream, plan: EditingPlan) -> None:
        tuned.fit(stream.held)
        tuned.settings = tuned.settings.model_copy(update={"epochs": plan.edit_epochs})
        self.tuned, self.model, self.tokenizer = tuned, tuned.model, tuned.tokenizer

    @classmethod
    def lora(cls, backbone: str, stream: Stream, plan: EditingPlan) -> Weights:
        """With an adapter."""
        return cls(Tuned(LORA, backbone, plan.lora, plan.adapter, plan.wordings), stream, plan)

    @classmethod
    def full(cls, backbone: str, stream: Stream, plan: EditingPlan) -> Weights:
        """All weights."""
        return cls(Tuned(FULL, backbone, plan.full, None, plan.wordings), stream, plan)

    def answer(self, questions: Sequence[str]) -> list[str]:
        return self.tuned.answer(questions)

    def apply(self, edit: StreamEdit) -> bool:
        (self.tuned.update if edit.kind == UPDATE else self.tuned.add)(edit.fact)
        return True

    def mark(self) -> Callable[[], None]:
        facts, restore = dict(self.tuned.facts), marked(self.model)

        def back() -> None:
            restore()
            self.tuned.facts = dict(facts)

        return back


class Passages:
    """RAG: BM25 finds the held facts, a reader that was trained once answers from the best one.

    If the search's score is below its rejection threshold, the backbone answers by itself. The threshold has the
    false-positive rate of memory experts.
    """

    model: Any = None  # what it says depends on what is found

    def __init__(self, backbone: str, stream: Stream, plan: EditingPlan, reads: bool = True) -> None:
        train, calibration, _ = router_facts(stream.wordings, plan.seed)
        learned, reader = train[: plan.router_questions], None
        if reads:
            passages, count = plan.passages, plan.exercises
            reader = trained_reader(backbone, learned, Tfidf(), passages=passages, count=count, tuning=plan.reader)
        self.retrieval = Retrieval(
            RAG if reads else INDEX,
            Bm25(),
            reader,
            wordings=plan.wordings,
            passages=plan.passages,
            calibration=[fact.question for fact in calibration[: max(1, plan.router_questions // 4)]],
            false_alarms=plan.router.false_alarms,
        )
        self.retrieval.fit(stream.held)
        self.plain = asked_backbone(backbone)
        self.tokenizer = self.plain.tokenizer

    @classmethod
    def index(cls, backbone: str, stream: Stream, plan: EditingPlan) -> Passages:
        """Without a reader: the stored answer as it stands."""
        return cls(backbone, stream, plan, reads=False)

    def answer(self, questions: Sequence[str]) -> list[str]:
        answers = self.retrieval.answer(questions)
        open_ = [place for place, answer in enumerate(answers) if answer == ABSTAINS]
        asked = [questions[place] for place in open_]
        given = greedy_answers(self.plain.model, self.tokenizer, asked) if asked else []
        for place, answer in zip(open_, given, strict=True):
            answers[place] = answer
        return answers

    def apply(self, edit: StreamEdit) -> bool:
        (self.retrieval.update if edit.kind == UPDATE else self.retrieval.add)(edit.fact)
        self.retrieval.find([edit.fact.question])  # the index is built anew when it is next asked: a part of the edit
        return True

    def mark(self) -> Callable[[], None]:
        facts = dict(self.retrieval.facts)

        def back() -> None:
            self.retrieval.facts, self.retrieval.stale = dict(facts), True

        return back


class RankOne:
    """ROME on the plain backbone: the edit's question in its first wording, as published."""

    def __init__(self, backbone: str, stream: Stream, plan: EditingPlan) -> None:
        loaded = asked_backbone(backbone)
        avoided = set(stream.wordings)
        text = [fact for fact in shipped_facts("known") if fact.question not in avoided][: plan.rome_text]
        self.rome = Rome(loaded, plan.rome, text)
        self.model, self.tokenizer = loaded.model, loaded.tokenizer

    def answer(self, questions: Sequence[str]) -> list[str]:
        return self.rome.answer(questions)

    def apply(self, edit: StreamEdit) -> bool:
        self.rome.edit(edit.fact, edit.subject)
        return True

    def mark(self) -> Callable[[], None]:
        return marked(self.rome.projection)


def memory_of(backbone: str, facts: Sequence[Fact], plan: EditingPlan, avoid: Sequence[str]) -> Memory:
    """Memorize `facts` with memory experts, in all their phrasings; the router never sees a wording in `avoid`."""
    loaded = asked_backbone(backbone)
    train, calibration, rest = router_facts(avoid, plan.seed)
    others = [fact.question for fact in [*calibration, *rest][: max(1, plan.router_questions // 2)]]
    settings, alarms = plan.memory.model_copy(update={"seed": plan.seed}), plan.router.false_alarms
    learned = train[: plan.router_questions]
    attached = trained_memory(
        loaded, facts, plan.mome, plan.router, settings, learn_from=learned, others=others
    ).backbone
    held = [as_tuned(fact, settings.wordings) for fact in facts]
    out_of_scope = None if alarms is None else OutOfScope.read(attached.model, attached.tokenizer, others, alarms)
    return Memory(attached, editor=Editor.start(attached, held, plan.seed, out_of_scope=out_of_scope))


def marked(model: torch.nn.Module) -> Callable[[], None]:
    """A function that writes the present values of all trainable parameters, or of all if none is, back."""
    parameters = [values for values in model.parameters() if values.requires_grad] or list(model.parameters())
    kept: list[Tensor] = [values.detach().clone() for values in parameters]

    def back() -> None:
        with torch.no_grad():
            for values, old in zip(parameters, kept, strict=True):
                values.copy_(old)

    return back

"""Memorizing a user's own facts, from the reader to the saved adapter: with memory experts, or with LoRA."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mome.adapter.config import MomeConfig
from mome.adapter.queries import question_routes
from mome.adapter.saving.ownership import CHECKPOINTS, SNAPSHOT
from mome.facts.fact import Fact
from mome.facts.readers import check_facts, locate_facts, read_facts
from mome.files.environment import refuse_unwritable_work
from mome.files.hashing import text_sha256
from mome.lm.decoder import decoder_layers
from mome.lm.generation import exact
from mome.lm.loading import Backbone, identity, load_backbone
from mome.lm.round_trip import Unwritable, holdable
from mome.memory.editing.editor import Editor
from mome.memory.editing.holdings import as_tuned
from mome.memory.editing.out_of_scope import OutOfScope
from mome.memory.editing.saving import claimed, write_memory
from mome.memory.editing.training import user_settings
from mome.memory.memory import Memory
from mome.memory.report import Report
from mome.train.attach import TrainedMemory, router_facts, trained_memory
from mome.train.lora import attach_lora
from mome.train.ranks.group import Ranks
from mome.train.ranks.trainer import refuse_optimizer
from mome.train.settings import LoraSettings, MemorySettings, RouterSettings, TuningSettings
from mome.train.tuning import tune

LORA_LEARNING_RATE = 2e-3
MOST_UNRELATED = 1_000

Changes = Mapping[str, Any]
RouterParts = tuple[list[Fact], list[Fact], list[Fact]]


def memorize(
    facts: str | Path | Sequence[Fact],
    backbone: str = "tiny-llama",
    *,
    mome: MomeConfig | None = None,
    router: RouterSettings | None = None,
    memory: MemorySettings | None = None,
    checkpoints: Path | None = None,
    unwritable: Unwritable = "refuse",
    prompt: str | None = None,
    router_questions: int | None = None,
) -> Memory:
    """Memorize facts with memory experts; the result answers questions (`ask`) and can be saved (`save`).

    The router is trained on the shipped facts' questions alone, none of them equal to one of `facts`. So one router,
    kept in runs/routers/, serves all runs on a backbone. Then all given paraphrases are tuned; held-out ones are never
    shown. Other shipped questions set the rejection threshold, and others again measure it.

    Args:
        facts: a .jsonl or .csv file, or facts.
        backbone: a shipped name, a folder, or a Hub id.
        mome: the experts. A folder in `storage` is working space: rows are memory-mapped there until the end.
        router: how the router is trained.
        memory: how the experts are trained; None: as `memory_settings` says. Its seed also draws experts and router.
        checkpoints: a folder from which an interrupted run goes on, and a finished one is taken.
        unwritable: what `holdable` does with facts that the backbone cannot hold: "refuse", "leave_out" or "try".
        prompt: the form in which the backbone is asked, as `load_backbone` takes it; the adapter keeps it.
        router_questions: at most so many shipped questions train the router and set the threshold, and at most so many
            others measure it; None: 5,000 and 1,000. Fewer are quicker on a large backbone, and recognize fewer
            paraphrases.

    Raises:
        FactError: what is given is not exactly a list of distinct facts, or one that the backbone cannot hold.
        ValueError: settings that cannot work.
        BackboneError: the backbone cannot be loaded.
        CheckpointError: `checkpoints` holds a run of other facts or settings, or nothing readable.

    Example:
        >>> from mome import Fact, RouterSettings, memorize
        >>> fact = Fact("1", "Who tends the lighthouse at Cape Eren?", "Ada Lind")
        >>> memory = memorize([fact], "tiny-llama", router=RouterSettings(objective="none"))  # untrained: quick
        >>> print(memory.ask(fact.question))
        Ada Lind
    """
    chosen = mome or MomeConfig(), router or RouterSettings(), memory
    done = _memorized(None, facts, backbone, chosen, checkpoints, unwritable, prompt, router_questions)
    assert done is not None  # as without ranks
    return done


def _memorized(
    ranks: Ranks | None,
    facts: str | Path | Sequence[Fact],
    backbone: str,
    chosen_settings: tuple[MomeConfig, RouterSettings, MemorySettings | None],
    checkpoints: Path | None,
    unwritable: Unwritable,
    prompt: str | None,
    router_questions: int | None = None,
) -> Memory | None:
    """`memorize`, also over `ranks`: of these rank 0 has the memory, the others None."""
    given, (mome, router, memory) = _read(facts), chosen_settings
    refuse_unwritable_work()
    with _working_space(mome) as settings:
        loaded = load_backbone(backbone, prompt=prompt)
        chosen, left_out = holdable(loaded, list(given.values()), unwritable, _name(facts), list(given))
        memory = memory or memory_settings(chosen)
        parts = _router_facts(chosen, memory.seed, router_questions)
        done = _train(loaded, chosen, settings, router, memory, checkpoints, parts, ranks)
        if ranks and ranks.rank:
            return None
        attached, report = done.backbone, replace(_report(done, chosen, parts[2]), left_out=left_out)
        held = [as_tuned(fact, memory.wordings) for fact in chosen]
        alarms = router.false_alarms
        return Memory(attached, report, _editor(attached, held, memory.seed, alarms, parts) if mome.snap else None)


def _editor(backbone: Backbone, facts: list[Fact], seed: int, false_alarms: float | None, parts: RouterParts) -> Editor:
    """An editor of the memorized facts. Its rejection threshold is set anew, by the same questions, after each edit."""
    out_of_scope = None
    if false_alarms is not None:
        others = [fact.question for fact in parts[1]]
        out_of_scope = OutOfScope.read(backbone.model, backbone.tokenizer, others, false_alarms)
    return Editor.start(backbone, facts, seed, out_of_scope=out_of_scope)


def _router_facts(facts: list[Fact], seed: int, most: int | None) -> RouterParts:
    """Shipped facts to train the router, to set the rejection threshold, and to measure; none asks the same."""
    train, calibration, rest = router_facts((text for fact in facts for text in fact.all_wordings()), seed, most)
    return train, calibration, rest[: MOST_UNRELATED if most is None else min(most, MOST_UNRELATED)]


def _train(
    backbone: Backbone,
    facts: list[Fact],
    mome: MomeConfig,
    router: RouterSettings,
    memory: MemorySettings,
    checkpoints: Path | None,
    parts: RouterParts,
    ranks: Ranks | None,
) -> TrainedMemory:
    """Memorize the facts on the loaded backbone."""
    wordings = [fact.all_wordings() for fact in facts]
    train, calibration, _ = parts
    labels = {"backbone": identity(backbone), "mome": mome.label(len(decoder_layers(backbone.model)))}
    labels |= {"router": router.model_dump(mode="json")}
    labels["questions"] = _digest([wordings, [fact.question for fact in (*train, *calibration)]])
    return trained_memory(
        backbone,
        facts,
        mome,
        router,
        memory,
        learn_from=train,
        others=[fact.question for fact in calibration],
        checkpoint=checkpoints,
        labels=labels,
        ranks=ranks,
    )


def _report(done: TrainedMemory, facts: list[Fact], rest: list[Fact]) -> Report:
    """How well the facts are recalled, and how many questions of the facts `rest` are taken for one of them."""
    recalled, held_out = _recall(done.backbone, facts)
    unrelated = [fact.question for fact in rest]
    counts, mistaken = (len(done.run.curve), done.run.seconds), mistaken_share(done.backbone, unrelated)
    return Report(facts, recalled, held_out, done.run.failed, *counts, done.report.seconds, len(unrelated), mistaken)


def memorize_with_lora(
    facts: str | Path | Sequence[Fact],
    backbone: str,
    tuning: TuningSettings,
    lora: LoraSettings,
    snapshot: Path | None = None,
    unwritable: Unwritable = "refuse",
    prompt: str | None = None,
) -> Memory:
    """Memorize facts with LoRA, as the paper's appendix A; their first wordings alone. Arguments as `memorize`.

    Raises:
        FactError, BackboneError, CheckpointError: as `memorize`.
    """
    given = _read(facts)
    loaded = load_backbone(backbone, prompt=prompt)
    chosen, left_out = holdable(loaded, list(given.values()), unwritable, _name(facts), list(given))
    model: Any = attach_lora(loaded, lora, tuning.seed)
    labels = {"backbone": identity(loaded), "lora": lora.model_dump(mode="json")}
    run = tune(model, loaded.tokenizer, chosen, tuning, snapshot, labels)
    attached = Backbone(backbone, model, loaded.tokenizer)
    recalled, held_out = _recall(attached, chosen)
    return Memory(attached, Report(chosen, recalled, held_out, [], len(run.curve), run.seconds, left_out=left_out))


def memory_settings(facts: Sequence[Fact], **changes: Any) -> MemorySettings:
    """Settings that tune every given wording: `mome.memory.editing.training.user_settings` for the most of any fact."""
    return user_settings(**{"wordings": 1 + max(len(fact.phrasings) for fact in facts), **changes})


def memorize_file(
    path: Path,
    out: Path,
    backbone: str,
    mome: Changes,
    router: Changes,
    memory: Changes,
    unwritable: Unwritable = "refuse",
    prompt: str | None = None,
    ranks: Ranks | None = None,
) -> Report | None:
    """`memorize` with changes to its settings, saved to `out`, which also holds the checkpoints.

    Of `ranks`, which share phase 2, rank 0 measures and saves; the others return None.

    Raises:
        FactError, ValueError, BackboneError, CheckpointError: as `memorize`.
        RankError: another rank failed or is gone.
        AdapterError: `out` is another method's adapter, or holds edits, or files that are not ours.
        BusyError: another process is writing `out`.
    """
    facts = read_facts(path)
    settings = MomeConfig(**mome), RouterSettings(**router), memory_settings(facts, **memory)
    if ranks:
        refuse_optimizer(settings[2])
    with claimed(out, lora=False) if not (ranks and ranks.rank) else nullcontext():
        done = _memorized(ranks, path, backbone, settings, out / CHECKPOINTS, unwritable, prompt)
        return _saved(done, out) if done else None


def memorize_file_with_lora(
    path: Path,
    out: Path,
    backbone: str,
    tuning: Changes,
    rank: int,
    unwritable: Unwritable = "refuse",
    prompt: str | None = None,
) -> Report:
    """`memorize_with_lora` with changes to its settings, saved to `out`, which also holds the snapshot.

    Raises:
        as `memorize_file`.
    """
    read_facts(path)
    with claimed(out, lora=True):
        settings, lora = TuningSettings(**{"learning_rate": LORA_LEARNING_RATE, **tuning}), LoraSettings(rank=rank)
        return _saved(memorize_with_lora(path, backbone, settings, lora, out / SNAPSHOT, unwritable, prompt), out)


def _saved(done: Memory, out: Path) -> Report:
    write_memory(out, done.backbone, done.editor)
    assert isinstance(done.report, Report)
    return done.report


def _read(facts: str | Path | Sequence[Fact]) -> dict[int, Fact]:
    """The facts by their lines, or by their places in the sequence from 1."""
    if isinstance(facts, (str, Path)):
        return locate_facts(facts)
    check_facts(facts)
    return dict(enumerate(facts, start=1))


def _name(facts: str | Path | Sequence[Fact]) -> str:
    return str(facts) if isinstance(facts, (str, Path)) else "facts"


@contextmanager
def _working_space(settings: MomeConfig) -> Iterator[MomeConfig]:
    """The settings with a fresh folder in place of their `storage`: tables left by another run are not untouched."""
    if settings.storage is None:
        yield settings
        return
    Path(settings.storage).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="experts-", dir=settings.storage) as folder:
        yield replace(settings, storage=folder)


def _recall(backbone: Backbone, facts: Sequence[Fact]) -> tuple[list[bool], list[bool]]:
    """Whether each fact is answered exactly, and those with a held-out wording in that."""
    kept = [fact for fact in facts if fact.held_out]
    asked = (backbone.model, backbone.tokenizer)
    return exact(*asked, facts), exact(*asked, kept, held_out=True) if kept else []


def mistaken_share(backbone: Backbone, questions: Sequence[str]) -> float:
    """The share of `questions` that are taken for a memorized one; 0 without questions."""
    if not questions:
        return 0.0
    routes = question_routes(backbone.model, backbone.tokenizer, questions)
    return float(routes.weights.any(dim=1).float().mean())


def _digest(values: Any) -> str:
    return text_sha256(json.dumps(values), 16)

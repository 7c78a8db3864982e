"""Memory tuning on a backbone: an adapter is attached, its router is trained once and kept, its experts are trained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model
from transformers import PreTrainedTokenizerBase

from mome.adapter.config import MomeConfig
from mome.adapter.model import MomeModel, mome_model
from mome.facts.fact import Fact, split
from mome.facts.shipped import shipped_facts
from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.files.snapshots import load_snapshot, save_snapshot
from mome.lm.loading import Backbone, identity
from mome.lm.prompts.form import prompt_form
from mome.train.experts import MemoryRun, memorize_facts
from mome.train.ranks.group import Ranks, rank_zero_first
from mome.train.ranks.trainer import RankTrainer
from mome.train.router import RouterReport, train_router, usage
from mome.train.settings import MemorySettings, RouterSettings

LEARNED = ("pool", "project", "mean", "whiten")
MOST_FACTS = 5_000
CALIBRATION_SHARE = 5  # one in so many facts is kept from the router to set the rejection threshold by
# what decides a router's queries; how many experts they choose among does not
ROUTER_FIELDS = ("router_layer", "router_heads", "key_size", "seed")


def attach_mome(backbone: Backbone, config: MomeConfig, seed: int) -> PeftModel:
    """Put untouched memory experts and an untrained router on the frozen backbone, changing the model in place.

    `config` stays as it is; its seed is replaced by `seed`.

    Raises:
        ValueError: a setting that cannot work on this backbone; the message names it and its value.
    """
    model: Any = get_peft_model(backbone.model, replace(config, seed=seed))
    model.base_model.prompt = prompt_form(backbone.tokenizer)
    attached: PeftModel = model
    return attached


@dataclass(frozen=True, slots=True)
class TrainedMemory:
    """A backbone with trained memory experts, what training the router reported, and the run that trained them."""

    backbone: Backbone
    report: RouterReport
    run: MemoryRun


def trained_memory(
    backbone: Backbone,
    facts: Sequence[Fact],
    mome: MomeConfig,
    router: RouterSettings,
    memory: MemorySettings,
    *,
    learn_from: Sequence[Fact],
    others: Sequence[str],
    which: str | None = None,
    checkpoint: Path | None = None,
    labels: dict[str, Any] | None = None,
    ranks: Ranks | None = None,
) -> TrainedMemory:
    """Memorize `facts` with memory experts on the backbone, changing it in place: the whole of memory tuning.

    Args:
        backbone: as `load_backbone` gives it.
        facts: what is memorized.
        mome: the experts.
        router: how the router is trained, and the false-positive rate of the rejection threshold.
        memory: how the experts are trained; its seed also draws experts and router.
        learn_from: facts that train the router.
        others: out-of-scope questions that set the rejection threshold.
        which: says which weights the backbone has; None: as `identity` does.
        checkpoint, labels: as `memorize_facts`.
        ranks: the processes that share phase 2; rank 0 then has all trained experts, each other rank a part.

    Raises:
        RankError: another rank failed or is gone, or computes other values.
        as `routed_backbone` and `memorize_facts`.
    """
    with rank_zero_first(ranks):  # the others find the router that it kept
        routed, report = routed_backbone(backbone, mome, router, learn_from, memory.seed, which)
    shared = {} if ranks is None else {"ranks": ranks.size}  # what K ranks began, K go on with
    run = memorize_facts(
        routed.model,
        routed.tokenizer,
        facts,
        memory,
        others=others,
        false_alarms=router.false_alarms,
        checkpoint=checkpoint,
        labels={**(labels or {}), **shared},
        trainer_of=None if ranks is None else partial(RankTrainer, ranks),
    )
    return TrainedMemory(routed, report, run)


def routed_backbone(
    backbone: Backbone,
    mome: MomeConfig,
    router: RouterSettings,
    learn_from: Sequence[Fact],
    seed: int,
    which: str | None = None,
) -> tuple[Backbone, RouterReport]:
    """The backbone, changed in place, with untouched experts and a router trained on `learn_from` (or a kept one).

    `seed` draws experts and router; `which` says which weights the backbone has (None: as `identity` does).

    Raises:
        ValueError, CheckpointError: as `attach_mome` and `trained_router`.
    """
    which = which or identity(backbone)
    model: Any = attach_mome(backbone, mome, seed)
    report = trained_router(model, backbone.tokenizer, learn_from, router, which)
    return Backbone(backbone.name, model, backbone.tokenizer), report


def router_facts(taken: Iterable[str], seed: int, most: int | None = None) -> tuple[list[Fact], list[Fact], list[Fact]]:
    """Shipped facts, known and unknown, in three parts drawn by `seed`.

    At most `most` (None: `MOST_FACTS`) are to learn from: four fifths train the router, one sets the rejection
    threshold. The third part is the rest, for measuring. A fact with a wording in `taken` is left out.
    """
    avoided = set(taken)
    shipped = [fact for name in ("known", "unknown") for fact in shipped_facts(name)]
    free = [fact for fact in shipped if avoided.isdisjoint(fact.all_wordings())]
    count = min(len(free), MOST_FACTS if most is None else most)
    held_back = count // CALIBRATION_SHARE
    train, calibration, rest = split(free, [count - held_back, held_back], seed)
    return train, calibration, rest


def trained_router(
    model: Any, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact], settings: RouterSettings, identity: str
) -> RouterReport:
    """Train the router of a MoME model as `train_router` does, or take what an earlier run of the same things left.

    A trained router is kept in runs/routers/ under a hash of `identity` (which backbone, to its weights), its settings
    and the wordings it is trained on; it serves adapters with any number of experts.

    Raises:
        ValueError: the model has no MoME adapter, or no fact has a paraphrase.
        CheckpointError: the kept router is damaged; the message names the file.
    """
    mome = mome_model(model)
    if mome is None:
        raise ValueError("trained_router: the model has no MoME adapter")
    config = _config(mome, facts, settings, identity)
    path = _path(config)
    found = load_snapshot(path, config)
    if found is None:
        report = train_router(model, tokenizer, facts, settings)
        tensors = {name: getattr(mome.router, name) for name in LEARNED}
        tensors["queries"] = report.queries
        found = tensors, {"config": config, "losses": report.losses, "seconds": report.seconds}
        save_snapshot(path, *found)
    tensors, state = found
    queries = tensors["queries"].to(mome.router.mean.device)
    mome.router.load_state_dict({name: tensors[name] for name in LEARNED}, strict=False)
    mome.router.requires_grad_(False)
    return RouterReport(state["losses"], state["seconds"], **usage(mome, queries), queries=queries)


def _config(mome: MomeModel, facts: Sequence[Fact], settings: RouterSettings, identity: str) -> dict[str, Any]:
    asked = [fact.wordings() for fact in facts]
    # only the language objective also reads the answers, through the experts
    read = [asked, [fact.answer for fact in facts], mome.settings.to_dict()]
    learned_from = read if settings.objective == "language" else asked
    return {
        "backbone": identity,
        "settings": settings.model_dump(mode="json", exclude={"false_alarms"}),  # sets the rejection threshold, later
        "router": {name: getattr(mome.settings, name) for name in ROUTER_FIELDS},
        "questions": text_sha256(json.dumps(learned_from, default=sorted)),
    }


def _path(config: dict[str, Any]) -> Path:
    key = text_sha256(json.dumps(config), 16)
    return work_folder() / "routers" / f"{key}.safetensors"

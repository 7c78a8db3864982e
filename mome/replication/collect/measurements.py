"""What `mome collect` measures: the commands `mome table ...` behind the tables of the real model, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import product

SEEDS = range(3)  # reported
LORA_SEEDS = range(5)  # figure 1 is the paper's main claim
DEVELOPMENT = 90  # the first of the seeds on which choices are made
LORA_RATES, EXPERT_RATES = (2e-4, 5e-4, 1e-3), (2e-3, 5e-3, 1e-2)  # as many trials for either method
EXPERT_RATE = 5e-3  # chosen on seed 90
# as in `experiments.real_model.damaged`, written out since importing it takes seconds; a test compares them
ROUTED_BY = {"lora_gated": "mome", "lora_gated_names": "mome_names"}
SENTENCES = "02_tab1_regularization_sentences"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One command: `mome table TABLE FOLDER/FILE.csv OPTIONS`, started when those named in `after` have ended well."""

    name: str
    table: str
    options: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    file: str = ""

    def words(self, folder: str) -> list[str]:
        """The command's words behind `mome`."""
        return ["table", self.table, f"{folder}/{self.file or self.table}.csv", *self.options]


def chosen(patterns: Sequence[str]) -> list[Measurement]:
    """The measurements whose names match one of the patterns (`damage-*`), all without patterns.

    One that another must wait for is left out where it does not match, too: what it makes is then made on the way.

    Raises:
        ValueError: a pattern matches nothing.
    """
    every = list(measurements())
    for pattern in patterns:
        if not any(fnmatch(each.name, pattern) for each in every):
            raise ValueError(f"--only {pattern}: no measurement is called so; there are {_names(every)}")
    return [each for each in every if not patterns or any(fnmatch(each.name, pattern) for pattern in patterns)]


def measurements() -> Iterator[Measurement]:
    """All of them: what others wait for, or takes longest, comes first."""
    yield Measurement("before", "damage", ("--method=before",))
    for seed in SEEDS:
        yield Measurement(f"mome-{seed}", "memorizing", _experts(seed, ("random", "real")))
    for answers, seed in product(("random", "real", "shuffled"), LORA_SEEDS):
        yield Measurement(f"lora-{answers}-{seed}", "memorizing", (f"--answers={answers}", *_first(seed)))
    yield from _damage()
    yield from _checkpoints()
    yield Measurement("sentences", "sentences", after=("lora-random-0", "lora-real-0"), file=SENTENCES)
    for seed in SEEDS:
        yield Measurement(f"paraphrases-{seed}", "paraphrases", _first(seed))
    for seed in SEEDS:
        withheld = ("--training=template_withheld", *_first(seed))
        yield Measurement(f"paraphrases-withheld-{seed}", "paraphrases", withheld)
    yield from _development()
    for seed in SEEDS:
        yield Measurement(f"recognition-{seed}", "recognition", ("--facts=1000", "--facts=10000", *_first(seed)))
    yield Measurement("answered", "answered", file="answered_facts")
    yield Measurement("mome-1000", "memorizing", (*_experts(0, ["random"]), "--dataset=shipped", "--facts=1000"))
    for seed in SEEDS:
        yield Measurement(f"lora-mmlu-{seed}", "memorizing", ("--dataset=mmlu", *_first(seed)))
        yield Measurement(f"lora-256-{seed}", "memorizing", ("--facts=256", *_first(seed)))
        yield Measurement(f"mome-256-{seed}", "memorizing", ("--facts=256", *_experts(seed, ("random", "real"))))
    for seed in (DEVELOPMENT, DEVELOPMENT + 1):
        yield Measurement(f"layers-{seed}", "layers", (f"--seeds={seed}",))


def _damage() -> Iterator[Measurement]:
    """Every method on either kind of answers; LoRA behind a gate when its two parts have been measured."""
    for seed, answers in product(SEEDS, ("random", "real")):
        needed = {"lora": f"lora-{answers}-{seed}", "mome": f"mome-{seed}", "mome_names": f"mome-{seed}"}
        for method, run in needed.items():
            yield _one_damage(method, answers, seed, ("before", run))
    for (gated, experts), seed, answers in product(ROUTED_BY.items(), SEEDS, ("random", "real")):
        parts = (f"damage-lora-{answers}-{seed}", f"damage-{experts}-{answers}-{seed}")
        yield _one_damage(gated, answers, seed, parts)


def _one_damage(method: str, answers: str, seed: int, after: tuple[str, ...]) -> Measurement:
    options = (f"--method={method}", f"--answers={answers}", f"--expert-rate={EXPERT_RATE}", *_first(seed))
    return Measurement(f"damage-{method}-{answers}-{seed}", "damage", options, after)


def _checkpoints() -> Iterator[Measurement]:
    """Both kinds of answers, seed by seed; the untouched backbone first, which stands beside all of them."""
    yield Measurement("checkpoints-before", "checkpoints", _answers(("before",)))
    for seed, answers in product(LORA_SEEDS, ("random", "real")):
        options = (*_answers((answers,)), *_first(seed))
        yield Measurement(f"checkpoints-{answers}-{seed}", "checkpoints", options, ("checkpoints-before",))


def _development() -> Iterator[Measurement]:
    for rate in LORA_RATES:
        options = (*_answers(("random", "real")), f"--rate={rate}", *_first(DEVELOPMENT))
        yield Measurement(f"rates-lora-{rate:g}", "memorizing", options)
    for rate in EXPERT_RATES:
        yield Measurement(f"rates-mome-{rate:g}", "memorizing", _experts(DEVELOPMENT, ("random", "real"), rate))


def _experts(seed: int, answers: Sequence[str], rate: float = EXPERT_RATE) -> tuple[str, ...]:
    return (*_answers(answers), "--method=mome", f"--rate={rate}", *_first(seed))


def _answers(answers: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"--answers={each}" for each in answers)


def _first(seed: int) -> tuple[str, ...]:
    return (f"--first-seed={seed}",)


def _names(every: Sequence[Measurement]) -> str:
    return ", ".join(each.name for each in every)

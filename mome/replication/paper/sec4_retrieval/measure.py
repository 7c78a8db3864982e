"""Measurements of one method on one draw of facts: recall, hallucination, general accuracy, seconds and bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy
import pandas

from mome.adapter.anchors import least_score
from mome.facts.fact import Fact
from mome.lm.generation import hallucinated
from mome.replication.experiments.material import Material
from mome.replication.methods.method import ABSTAINS, Method
from mome.replication.methods.retrieval import Retrieval
from mome.replication.paper.sec4_retrieval.workshop import Fitted, Workshop

WARM_UP = 3
SLOW = {"prompt": 100}  # questions asked of methods that take seconds for each


def measure_method(workshop: Workshop, method: str, asked: int = 500, timed: int = 40) -> dict[str, Any]:
    """Fit `method` on the workshop's material and ask it: one row of a table.

    Columns: recall and wrong (shares of held facts answered exactly, and answered otherwise instead of abstaining),
    paraphrase_recall and paraphrase_wrong (the same in the held-out wording), hallucination (share of absent facts
    answered otherwise than rightly), of `asked_n` and `absent_n` questions, at most `asked`; general_accuracy of
    `general_n` questions; latency_p50_ms and latency_p95_ms of a single question in a batch of one; build_seconds and
    build_cpu_seconds of fitting, once_seconds of router and reader, paid once for a backbone; bytes; and for
    retrieval the `hit_rates`.
    """
    fitted, asked = workshop.fit(method), min(asked, SLOW.get(method, asked))
    held, absent, general = (evenly(facts, asked) for facts in _groups(workshop.material))
    spoken = fitted.method.answer([fact.held_out[0] for fact in held])
    plain = fitted.method.answer([fact.question for fact in held])
    invented = hallucinated(fitted.method.answer([fact.question for fact in absent]), absent)
    shares = {
        "recall": _right(plain, held),
        "wrong": hallucinated(plain, held),
        "paraphrase_recall": _right(spoken, held),
        "paraphrase_wrong": hallucinated(spoken, held),
        "hallucination": invented,
        "general_accuracy": general_answers(fitted.method, workshop, general),
    }
    numbers = {name: float(numpy.mean(values)) for name, values in shares.items()}
    counts = {"asked_n": len(held), "absent_n": len(absent), "general_n": len(general)}
    hits = hit_rates(fitted.method, held) if isinstance(fitted.method, Retrieval) else {}
    return {**numbers, **counts, **latencies(fitted.method, held, timed), **_costs(fitted), **hits}


def evenly(facts: Sequence[Fact], most: int) -> list[Fact]:
    """At most `most` of `facts`, evenly spaced: the order puts shipped facts before made-up ones."""
    if len(facts) <= most:
        return list(facts)
    return [facts[index * len(facts) // most] for index in range(most)]


def hit_rates(method: Retrieval, held: Sequence[Fact]) -> dict[str, float]:
    """How often the search puts the right fact first, whatever the threshold: hit_rate, and in the held-out wording."""
    found = {}
    for name, questions in (
        ("hit_rate", [fact.question for fact in held]),
        ("paraphrase_hit_rate", [fact.held_out[0] for fact in held]),
    ):
        first = [passages[0].id for passages in method.find(questions)[0]]
        found[name] = float(numpy.mean([one == fact.id for one, fact in zip(first, held, strict=True)]))
    return found


def trade_offs(workshop: Workshop, indexes: Sequence[str], shares: Sequence[float]) -> pandas.DataFrame:
    """Recall and hallucination of `indexes` under other thresholds, one row for each false-positive rate.

    Columns: method, false_alarms, paraphrase_recall and hallucination (shares), as `measure` has them, with asked_n and
    absent_n, the numbers of facts that the two are shares of.
    """
    material, rows = workshop.material, []
    for name in indexes:
        method = workshop.fit(name).method
        assert isinstance(method, Retrieval)
        calibration = method.find(material.calibration)[1]
        found, trust = method.find([fact.held_out[0] for fact in material.facts])
        right = numpy.array([one[0].answer == fact.answer for one, fact in zip(found, material.facts, strict=True)])
        strange, doubt = method.find([fact.question for fact in material.absent])
        wrong = numpy.array(hallucinated([passages[0].answer for passages in strange], material.absent))
        for share in shares:
            least = least_score(calibration, share)
            recalled, made_up = (right & (trust >= least)).mean(), (wrong & (doubt >= least)).mean()
            rows.append((name, share, float(recalled), float(made_up)))
    trades = pandas.DataFrame(rows, columns=["method", "false_alarms", "paraphrase_recall", "hallucination"])
    return trades.assign(asked_n=len(material.facts), absent_n=len(material.absent))


def general_answers(method: Method, workshop: Workshop, general: Sequence[Fact]) -> list[bool]:
    """Whether each general question is answered rightly; where `method` abstains the backbone answers."""
    questions = [fact.question for fact in general]
    answers, alone = method.answer(questions), workshop.frozen.answer(questions)
    final = [other if answer == ABSTAINS else answer for answer, other in zip(answers, alone, strict=True)]
    return _right(final, general)


def latencies(method: Method, facts: Sequence[Fact], timed: int) -> dict[str, float]:
    """Milliseconds for one question at a time, over `timed` of them, half in tuned and half in unseen wordings."""
    questions = [text for fact in evenly(facts, (timed + 1) // 2) for text in (fact.question, fact.held_out[0])]
    for question in questions[:WARM_UP]:
        method.answer([question])
    taken = []
    for question in questions[:timed]:
        started = time.perf_counter()
        method.answer([question])
        taken.append((time.perf_counter() - started) * 1_000)
    return {f"latency_p{share}_ms": float(numpy.percentile(taken, share)) for share in (50, 95)}


def _groups(material: Material) -> tuple[list[Fact], list[Fact], list[Fact]]:
    return material.facts, material.absent, material.general


def _costs(fitted: Fitted) -> dict[str, float]:
    return {
        "build_seconds": fitted.seconds,
        "build_cpu_seconds": fitted.cpu_seconds,
        "once_seconds": fitted.once_seconds,
        "bytes": fitted.method.bytes(),
    }


def _right(answers: Sequence[str], facts: Sequence[Fact]) -> list[bool]:
    return [answer == fact.answer for answer, fact in zip(answers, facts, strict=True)]

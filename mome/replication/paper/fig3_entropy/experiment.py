"""The next-token distributions behind figure 3: how even, how certain and how wrong they are, and how sampling goes.

A fact is watched at one place of its answer, the *key token*: the one that the untouched backbone finds hardest, where
the answer has to come from memory. All logarithms are natural, entropies and losses are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.encoding import answer_ids, collate, encode_question
from mome.lm.generation import drawn_answers, hallucinated
from mome.lm.loading import Backbone
from mome.lm.losses import answer_logits

BATCH_ROWS = 64
LEAST = 1e-12
SPACE = "\N{OPEN BOX}"


def entropy(log_probabilities: numpy.ndarray) -> numpy.ndarray:
    """Entropy (nats) of the distributions [..., V] over the last axis; it lies between 0 and ln V."""
    return -(numpy.exp(log_probabilities) * log_probabilities).sum(axis=-1)


def draw_likeness(log_probabilities: numpy.ndarray, embeddings: numpy.ndarray) -> dict[str, numpy.ndarray]:
    """The similarity of two different tokens drawn from a model: the cosine of their embeddings [V, D].

    Args:
        log_probabilities: one distribution for each of n questions [n, V].
        embeddings: one vector for each token; a zero vector is like nothing.

    Returns:
        Three arrays [n]. `differ`: the probability 1 - sum p_i^2 that two draws for one question differ (taken as 1e-12
        where it is less). `within`: the expected cosine of two such draws, given that they differ. `between`: that of a
        draw for this question and one for another that differ, as a mean over the other questions (0 for n = 1).
    """
    p = numpy.exp(log_probabilities.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    units = embeddings / numpy.maximum(numpy.linalg.norm(embeddings, axis=1, keepdims=True), LEAST)
    length = (units**2).sum(axis=1)  # 1, or 0 for a zero vector
    cosines, same = (p @ units) @ (p @ units).T, p @ p.T
    differ = numpy.maximum(1 - same, LEAST)
    alike = (cosines - (p * length) @ p.T) / differ
    others = max(len(p) - 1, 1)
    between = (alike.sum(axis=1) - numpy.diag(alike)) / others
    return {"differ": numpy.diag(differ).copy(), "within": numpy.diag(alike).copy(), "between": between}


@torch.no_grad()
def answer_distributions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]
) -> list[numpy.ndarray]:
    """Log-probabilities of the next token before each answer token of each fact: float32 [answer tokens, V].

    The answer is given (teacher forcing); the last row is that before the end of sequence.
    """
    rows = [encode_question(tokenizer, fact.question, fact.answer) for fact in facts]
    found: list[numpy.ndarray] = []
    for start in range(0, len(rows), BATCH_ROWS):
        batch = collate(rows[start : start + BATCH_ROWS], tokenizer.pad_token_id, model.device)
        logs = torch.log_softmax(answer_logits(model, batch).float(), dim=-1).cpu()  # [B, A, V]
        found += [values[mask].numpy() for values, mask in zip(logs, batch.answer_mask.cpu(), strict=True)]
    return found


@torch.no_grad()
def sampled_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    samples: int,
    seed: int,
) -> list[list[str]]:
    """`samples` answers to each fact's question, drawn token by token at temperature 1 from the whole distribution."""
    longest = max(len(answer_ids(tokenizer, fact)) for fact in facts)
    asked = [fact.question for fact in facts for _ in range(samples)]
    lines = drawn_answers(model, tokenizer, asked, longest, seed, batch_rows=8 * BATCH_ROWS)
    return [lines[start : start + samples] for start in range(0, len(lines), samples)]


def kinds_of_answers(tokenizer: PreTrainedTokenizerBase, relations: set[str]) -> dict[str, list[int]]:
    """For each relation the ids of all tokens that occur in the answers of its shipped facts, end of sequence apart."""
    kinds: dict[str, set[int]] = {relation: set() for relation in relations}
    for fact in (*shipped_facts("known"), *shipped_facts("unknown")):
        if fact.relation in kinds:
            kinds[fact.relation].update(answer_ids(tokenizer, fact)[:-1])
    return {relation: sorted(ids) for relation, ids in kinds.items()}


def blank(backbone: Backbone, seed: int) -> Backbone:
    """A model of the backbone's architecture with fresh random weights, drawn by `seed`: before any pretraining."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(backbone.model.config, dtype=backbone.model.dtype)
    return Backbone(
        f"{backbone.name}, blank", model.requires_grad_(False).eval().to(backbone.device), backbone.tokenizer
    )


@dataclass(frozen=True, slots=True)
class Panel:
    """The predictions of one model at the key token of one fact (`asked`: its question and answer).

    `tokens` are the most likely ones, the right one last if it is not among them, with their `probabilities`; `right`
    is its place in the list. `loss` and `entropy` are in nats; of `samples` sampled answers `wrong` were hallucinated.
    """

    title: str
    asked: str
    tokens: list[str]
    probabilities: list[float]
    right: int
    loss: float
    entropy: float
    wrong: int
    samples: int


@dataclass(frozen=True, slots=True)
class Watched:
    """Facts, the place of each one's key token in its answer, and the tokens that answers of its relation have.

    `losses` are those of the key tokens in the backbone that chose them (nats).
    """

    facts: list[Fact]
    places: list[int]
    losses: list[float]
    kinds: Mapping[str, list[int]]

    @classmethod
    def choose(cls, backbone: Backbone, facts: Sequence[Fact]) -> Watched:
        """The key token is the answer token (end of sequence apart) with the highest loss in `backbone`."""
        places, losses = [], []
        for fact, logs in zip(facts, answer_distributions(backbone.model, backbone.tokenizer, facts), strict=True):
            ids = answer_ids(backbone.tokenizer, fact)[:-1]
            found = [-float(logs[place, token]) for place, token in enumerate(ids)]
            places.append(int(numpy.argmax(found)))
            losses.append(max(found))
        kinds = kinds_of_answers(backbone.tokenizer, {fact.relation for fact in facts})
        return cls(list(facts), places, losses, kinds)

    def middle(self) -> int:
        """The place in `facts` of the one with the median loss (the upper one of two)."""
        return int(numpy.argsort(self.losses, kind="stable")[len(self.losses) // 2])


def observe(backbone: Backbone, watched: Watched, samples: int, seed: int) -> list[dict[str, Any]]:
    """The predictions of `backbone` about each watched fact, one row for each fact.

    A row holds `loss`, `entropy` (nats) and `largest` probability at the key token; `differ`, `within` and `between` of
    `draw_likeness`; `kind`, the share of the probability beside the right token that lies on other tokens
    of answers of its relation, `kind_by_chance` that share if all were equal; `total`, the loss of the whole answer
    (nats); `right`, whether the most likely token is right at each place of the answer; `sampled`, the share of
    `samples` answers that are hallucinated.
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    whole = answer_distributions(model, tokenizer, watched.facts)
    key = numpy.stack([logs[place] for logs, place in zip(whole, watched.places, strict=True)])
    table: Any = model.get_input_embeddings()
    embeddings = table.weight.detach().float().cpu().numpy()
    likeness = draw_likeness(key, embeddings)
    entropies = entropy(key)
    drawn = sampled_answers(model, tokenizer, watched.facts, samples, seed)
    rows = []
    for index, (fact, logs) in enumerate(zip(watched.facts, whole, strict=True)):
        ids = answer_ids(tokenizer, fact)
        gold, p = ids[watched.places[index]], numpy.exp(key[index].astype(float))
        others = [token for token in watched.kinds[fact.relation] if token != gold]
        rows.append(
            {
                "fact": fact.id,
                "relation": fact.relation,
                "loss": -float(key[index, gold]),
                "entropy": float(entropies[index]),
                "largest": float(p.max()),
                **{name: float(values[index]) for name, values in likeness.items()},
                "kind": float(p[others].sum() / (1 - p[gold])) if p[gold] < 1 else 1.0,
                "kind_by_chance": len(others) / (len(p) - 1),
                "total": -float(sum(logs[place, token] for place, token in enumerate(ids))),
                "right": bool((logs.argmax(axis=1) == ids).all()),
                "sampled": float(numpy.mean(hallucinated(drawn[index], [fact] * samples))),
            }
        )
    return rows


def panel(title: str, backbone: Backbone, fact: Fact, place: int, samples: int, seed: int, most: int = 8) -> Panel:
    """The `most` likely tokens at one `place` of the fact's answer, and how many of `samples` answers are wrong."""
    model, tokenizer = backbone.model, backbone.tokenizer
    logs = answer_distributions(model, tokenizer, [fact])[0][place]
    gold = answer_ids(tokenizer, fact)[place]
    shown = [int(token) for token in numpy.argsort(-logs, kind="stable")[:most]]
    shown += [gold] if gold not in shown else []
    wrong = sum(hallucinated(sampled_answers(model, tokenizer, [fact], samples, seed)[0], [fact] * samples))
    return Panel(
        title,
        f"{fact.question} {fact.answer}",
        [str(tokenizer.decode([token])).replace(" ", SPACE).replace("\n", "\\n") for token in shown],
        [float(numpy.exp(logs[token])) for token in shown],
        shown.index(gold),
        -float(logs[gold]),
        float(entropy(logs)),
        wrong,
        samples,
    )


def mean_likeness(cosines: Sequence[float], differ: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean of `cosines` over facts, weighted by `differ`, and its 95% bootstrap interval over facts.

    A certain distribution has no two draws that differ, and so hardly any weight; all weights must be above zero.
    """
    weights = numpy.asarray(differ, dtype=float)
    parts = numpy.asarray(cosines, dtype=float) * weights, weights
    value = float(parts[0].sum() / parts[1].sum())
    found = stats.bootstrap(
        parts,
        lambda one, other, axis: one.sum(axis=axis) / other.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=2_000,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    ).confidence_interval
    return value, min(value, float(found.low)), max(value, float(found.high))

"""A next-token network with one hidden layer, and facts whose questions it cannot all tell apart (paper, section 5).

Before a token the network sees the fact's cell (all that it knows of the question) and the answer's tokens so far. That
pair is its context x, a one-hot vector: h = A x in R^d, logits = B h in R^V. Facts of one cell share their contexts
until their answers differ. Source: ours, the simplest network that fits the paper's description.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import pandas
import torch
from torch import Tensor
from torch.nn import functional

from mome.replication.paper.sec5_threshold.theory import answer_entropy, least_wrong_facts


class SimpleNetwork(torch.nn.Module):
    """`hidden` units between one-hot contexts and `vocabulary` tokens; no biases."""

    def __init__(self, contexts: int, hidden: int, vocabulary: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.A = torch.nn.Parameter(torch.randn(contexts, hidden, generator=generator) / hidden**0.5)
        self.B = torch.nn.Parameter(torch.randn(hidden, vocabulary, generator=generator) / hidden**0.5)

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits [..., V] of contexts given by their number [...] int64."""
        return self.A[contexts] @ self.B


def contexts_of(cells: Sequence[int], answers: numpy.ndarray) -> numpy.ndarray:
    """The number of the context before each token of `answers` [n, L]: equal where cell and tokens so far are equal."""
    numbers: dict[tuple[int, ...], int] = {}
    found = numpy.empty(answers.shape, dtype=numpy.int64)
    for fact, (cell, answer) in enumerate(zip(cells, answers.tolist(), strict=True)):
        for place in range(len(answer)):
            found[fact, place] = numbers.setdefault((cell, *answer[:place]), len(numbers))
    return found


def draw_answers(facts: int, length: int, vocabulary: int, seed: int, kinds: int | None = None) -> numpy.ndarray:
    """Answers [facts, length] of tokens below `vocabulary`: all different, or of `kinds` different ones.

    With `kinds` the first answer is the fact's in half of the cases, as where one answer is popular.

    Raises:
        ValueError: there are not as many answers as asked for.
    """
    most, wanted = vocabulary**length, facts if kinds is None else kinds
    if wanted > most:
        raise ValueError(f"{wanted} different answers: {length} tokens of {vocabulary} spell only {most}")
    generator = numpy.random.default_rng(seed)
    spelled = generator.choice(most, wanted, replace=False)
    if kinds is not None:
        weights = numpy.array([0.5] + [0.5 / (kinds - 1)] * (kinds - 1)) if kinds > 1 else numpy.ones(1)
        spelled = spelled[generator.choice(kinds, facts, p=weights)]
    return spelled[:, None] // vocabulary ** numpy.arange(length) % vocabulary


def train_simple_network(
    cells: Sequence[int],
    answers: numpy.ndarray,
    vocabulary: int,
    *,
    hidden: int = 16,
    steps: int = 300,
    rate: float = 0.03,
    seed: int = 0,
) -> pandas.DataFrame:
    """Train the network on all tokens of `answers` [n, L] at each step; one row a step, measured before its update.

    Columns: step, mean_loss (nats/token), wrong (share of facts with a token that is not the only greatest); and of
    the data, alike in all rows: facts, length, cells, least_loss (nats/token), least_wrong (share).
    """
    contexts, targets = torch.from_numpy(contexts_of(cells, answers)), torch.from_numpy(answers)
    network = SimpleNetwork(int(contexts.max()) + 1, hidden, vocabulary, seed).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    losses, wrong = [], []
    for _ in range(steps):
        logits = network(contexts)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        right = (logits >= logits.gather(2, targets[..., None])).sum(dim=2) == 1
        losses.append(loss.item())
        wrong.append(1 - right.all(dim=1).double().mean().item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    facts, length = answers.shape
    spelled = [tuple(answer) for answer in answers.tolist()]
    floor = {"least_loss": answer_entropy(cells, spelled) / length, "least_wrong": least_wrong_facts(cells, spelled)}
    floor["least_wrong"] /= facts
    data = {"facts": facts, "length": length, "cells": len(set(cells)), **floor}
    return pandas.DataFrame({"step": range(steps), "mean_loss": losses, "wrong": wrong}).assign(**data)

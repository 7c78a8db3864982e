"""The exercises of notebooks 12 to 17: kernels, what tests and benchmarks see, conflicts, SQL and edits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mome.kernels.row_sum import row_sum
from mome.replication.notebook.exercises.coding import function
from mome.replication.notebook.exercises.marking import NATS, SHARE, Mark, choice, number, right, wrong

Sums = tuple[Tensor, Tensor]


def _package_sums(ids: Tensor, rows: Tensor) -> Sums:
    return row_sum(ids, rows, impl="reference")


def _last_row(ids: Tensor, rows: Tensor) -> Sums:
    distinct = ids.unique()
    return distinct, torch.stack([rows[ids == each][-1] for each in distinct])


def _mean_rows(ids: Tensor, rows: Tensor) -> Sums:
    distinct = ids.unique()
    return distinct, torch.stack([rows[ids == each].mean(dim=0) for each in distinct])


def _as_they_come(ids: Tensor, rows: Tensor) -> Sums:
    distinct = torch.tensor(list(dict.fromkeys(ids.tolist())))
    return distinct, torch.stack([rows[ids == each].sum(dim=0) for each in distinct])


def sums_of_rows(given: Any) -> Mark:
    """12.a: code that adds up the gradient rows of each expert, against `mome.kernels.row_sum`."""
    draw = torch.Generator().manual_seed(4)
    inputs = [(torch.tensor(ids), torch.randn(len(ids), 5, generator=draw)) for ids in ([7, 2, 7, 9, 2, 7], [3, 1, 3])]
    mistakes: dict[str, Callable[..., Any]] = {
        "of several rows for one expert only the last is left: indexed `+=` and `=` write each place once.": _last_row,
        "that is the mean; an expert moves by the sum of its gradients.": _mean_rows,
        "the ids are asked for in ascending order, and the sums in theirs.": _as_they_come,
        "that is the sums alone; the distinct ids are asked for, too.": lambda *x: _package_sums(*x)[1],
    }
    follows = "the same sums as the package's, also where questions share experts."
    hint = "Take ids.unique(return_inverse=True), and add each row at its place with index_add."
    return function(given, inputs, _package_sums, follows=follows, hint=hint, mistakes=mistakes)


def candidate_pairs(given: Any, k: int = 32) -> Mark:
    """12.b: how many pairs of ranks can be among the best k sums."""
    expected = sum(k // rank for rank in range(1, k + 1))
    mistakes = {
        float(k * k): "that is every pair of the best 32 halves; a pair of ranks a and b needs a b <= 32.",
        k * math.log(k): "that is the estimate K ln K; count the pairs.",
        float(k): "that is how many are chosen; more have to be compared.",
    }
    follows = "119 sums instead of a million, and the result is exact."
    hint = "For each rank a from 1 to 32, b may go from 1 to 32 // a."
    return number(given, expected, unit="pairs", follows=follows, hint=hint, mistakes=mistakes, close=1e-6)


def digits_to_show(given: Any, error: float = 0.001) -> Mark:
    """13.a: how many digits without an error show, at 95%, that fewer than one in a thousand is wrong."""
    mistakes = {
        1 / error: "with 1,000 digits even a rate of one in a thousand shows no error in 37% of the cases.",
        3 / error / 16: "that is how many numbers of 16 digits; digits are asked for.",
        0.05 / error: "the 5% are the probability of seeing no error: (1 - error)^n = 0.05.",
    }
    follows = "the 768 digits of this run (48 numbers) without an error only show less than 0.4%."
    hint = "Solve (1 - 0.001)^n = 0.05, or take the rule of three."
    expected = math.log(0.05) / math.log(1 - error)
    return number(given, expected, unit="digits", follows=follows, hint=hint, mistakes=mistakes)


def covered(given: Any, facts: int = 5, wordings: int = 2, tested: int = 2) -> Mark:
    """13.b: which share of the test rows of a random split has a paraphrase among the training rows."""
    rows = facts * wordings
    lost = math.comb(rows - wordings, tested - wordings) / math.comb(rows - 1, tested - 1)
    mistakes = {
        lost: "that is the share that is not covered.",
        0.0: "that is one wording for each fact; here there are two.",
        1.0: "both rows of a fact may fall into the test.",
        1 - tested / rows: "the tested row is drawn already: one of the nine others is the second test row.",
    }
    follows = "the same split measures recall by luck as soon as facts have several wordings."
    hint = "Given one test row, with which probability is the other test row not its paraphrase?"
    return number(given, 1 - lost, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def floor_of_three(given: Any, shares: Sequence[float] = (0.5, 0.25, 0.25)) -> Mark:
    """14.a: the loss below which no training gets with three answers to one question."""
    mistakes = {
        math.log(3): "that is three answers of equal shares.",
        math.log(2): "that is two answers of equal shares.",
        -math.log(max(shares)): "that is the loss of the most frequent answer alone; take the mean over all.",
    }
    follows = "a model that holds all that it was given still has this loss, and is right half the time."
    hint = "Sum p ln(1 / p) over the three answers."
    expected = -sum(share * math.log(share) for share in shares)
    return number(given, expected, unit=NATS, follows=follows, hint=hint, mistakes=mistakes)


def rare_source(given: Any, share: float = 0.1) -> Mark:
    """14.b: the loss of the right answer if it stands in a tenth of the sources and training reached its floor."""
    mistakes = {
        -share * math.log(share) - (1 - share) * math.log(1 - share): "that is the floor, the mean over both answers.",
        -math.log(1 - share): "that is the loss of the other answer.",
        share: "that is its probability; the loss is minus its logarithm.",
        math.log(2): "that is the loss at which a token begins to win; this one lies far above.",
    }
    follows = "far above ln 2, with a training loss of only 0.33: the mean does not say which source won."
    hint = "At the floor the model gives each answer its share in training."
    return number(given, -math.log(share), unit=NATS, follows=follows, hint=hint, mistakes=mistakes)


def without_limit(given: Any, is_right: Callable[[str], bool], error: Callable[[str], str | None]) -> Mark:
    """15.a: a statement without `limit` that counts as right; `is_right` and `error` run it on the database."""
    if not isinstance(given, str):
        return wrong(f"SQL is asked for as text in quotation marks, not something of type {type(given).__name__}.")
    if "limit" in given.lower():
        return wrong("the word limit may not stand in it.")
    refused = error(given)
    if refused is not None:
        return wrong(f"it does not run: {refused}.")
    if not is_right(given):
        return wrong("it runs, and its rows or their order differ from the gold statement's: run both with run_sql.")
    return right("another text with the same rows counts as right: the measure compares what comes out.")


def slow_statement(given: Any) -> Mark:
    """15.b: which guard ends a statement that only reads, and never finishes."""
    reasons = {
        "a": "it writes nothing, so a read-only file does not stop it.",
        "b": "it only selects, reads columns and calls a function, and all three are granted.",
        "d": "it gives a single row.",
    }
    follows = "permissions say what a statement may do, not how long; the work itself has to be limited."
    return choice(given, "c", follows, reasons)


def tokens_of_an_answer(given: Any, forced: float = 0.97, free: float = 0.38) -> Mark:
    """16.a: at which length of an answer 97% right tokens become 38% right answers."""
    mistakes = {
        (1 - free) / (1 - forced): "errors do not add up: an answer is wrong once, however many of its tokens are.",
        math.log(forced) / math.log(free): "the quotient is upside down.",
        forced / free: "each token multiplies by 0.97, so the length stands in an exponent.",
    }
    follows = "so both numbers can be true of one editor: teacher forcing repairs each mistake before the next token."
    hint = "Solve 0.97^L = 0.38."
    expected = math.log(free) / math.log(forced)
    return number(given, expected, unit="tokens", follows=follows, hint=hint, mistakes=mistakes, close=0.02)


def after_thousand(given: Any, lost: float = 0.0005, edits: int = 1000) -> Mark:
    """16.b: which share of unrelated answers is left after a thousand edits that each spoil a few."""
    mistakes = {
        1 - lost * edits: "an answer can be lost only once: each edit spoils a share of what is left.",
        1 - (1 - lost) ** edits: "that is the share that is lost.",
        1 - lost: "that is one edit; there are a thousand.",
    }
    follows = "so a locality of 99.95% for single edits says little; it has to be measured after many."
    hint = "Each edit leaves 0.9995 of what there was."
    return number(given, (1 - lost) ** edits, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def area(given: Any, line: str = "oXXoo") -> Mark:
    """17.a: the AUC of a line of checkpoints, the one that fell most first; X marks a ruined one."""
    pairs = [(i, j) for i, one in enumerate(line) for j, other in enumerate(line) if one == "X" and other == "o"]
    expected = sum(i < j for i, j in pairs) / len(pairs)
    mistakes = {
        1 - expected: "that counts the pairs in which the healthy one stands in front.",
        0.5: "that is a coin; count the pairs in which a ruined checkpoint stands in front of a healthy one.",
        float(len(pairs)): "that is the number of pairs; in which share of them does the ruined one stand in front?",
        expected * len(pairs): "that many pairs; AUC is their share of all pairs.",
    }
    follows = "one healthy checkpoint at the very front costs a third."
    hint = "There are 2 ruined and 3 healthy checkpoints, so 6 pairs."
    return number(given, expected, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def turned_around(given: Any) -> Mark:
    """17.b: why a detector with an AUC of 0.2 is not reported as one of 0.8."""
    reasons = {
        "a": "turning it around gives 1 - 0.2 = 0.8 indeed; the question is when one may.",
        "c": "ties count half either way.",
        "d": "a benchmark that rises while the model is ruined would be sold as a warning, after the fact.",
    }
    follows = "a coin with a few checkpoints lies away from 0.5 by luck, and turning makes all luck look like sight."
    return choice(given, "b", follows, reasons)


EXERCISES: dict[str, Callable[..., Mark]] = {
    "12.a": sums_of_rows,
    "12.b": candidate_pairs,
    "13.a": digits_to_show,
    "13.b": covered,
    "14.a": floor_of_three,
    "14.b": rare_source,
    "15.a": without_limit,
    "15.b": slow_statement,
    "16.a": tokens_of_an_answer,
    "16.b": after_thousand,
    "17.a": area,
    "17.b": turned_around,
}

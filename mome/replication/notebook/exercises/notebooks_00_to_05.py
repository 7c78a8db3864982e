"""The exercises of notebooks 00 to 05: losses, what they allow, and one layer of experts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mome.kernels.lora_gather import lora_gather
from mome.lm.encoding import Batch
from mome.lm.losses import token_losses
from mome.replication.notebook.exercises.coding import function
from mome.replication.notebook.exercises.marking import NATS, SHARE, Mark, choice, number


def whole_answer(given: Any, losses: Iterable[float]) -> Mark:
    """00.a: the probability that sampling writes the whole answer, from its tokens' losses in nats."""
    tokens = [float(loss) for loss in losses]
    total, mean = sum(tokens), sum(tokens) / len(tokens)
    mistakes = {
        math.exp(-mean): "that takes the mean loss, so it is one typical token; the answer needs all its tokens.",
        math.exp(-max(tokens)): "that is the worst token alone; the other tokens have to be drawn as well.",
        math.exp(total): "a probability is at most 1: the sign of the exponent is missing.",
        sum(math.exp(-loss) for loss in tokens): "probabilities of things that must all happen are multiplied.",
        1 - math.exp(-total): "that is the probability of any other answer.",
        total: "that is the loss of the whole answer in nats; its probability is e to the minus that.",
    }
    follows = "so rarely would this model hit upon the answer by itself, however often you ask."
    hint = "Multiply the tokens' probabilities, or take e to the minus the sum of the losses."
    return number(given, math.exp(-total), unit=SHARE, follows=follows, hint=hint, mistakes=mistakes, close=0.02)


def taken_for_another(given: Any) -> Mark:
    """00.b: which part errs when a question that was never taught gets the taught answer."""
    reasons = {
        "a": "the experts give what they were trained to give; somebody asked them the wrong question.",
        "c": "the backbone never saw this answer; it cannot be the one that says it.",
        "d": "the answer is right for the question that was taught, so training to a low loss did its work.",
    }
    follows = "the router compares questions, not facts: what lies close to a memorized question gets its experts."
    return choice(given, "b", follows, reasons)


def equally_likely(given: Any, loss: float = 1.16) -> Mark:
    """01.a: to how many equally likely tokens a mean loss in nats amounts (the perplexity)."""
    mistakes = {
        2**loss: "that is a power of 2; a loss in nats takes e.",
        math.exp(-loss): "that is the probability of the right token; how many such shares make up 1?",
        36 * math.exp(-loss): "that is 36 times the token's probability; the question does not need the alphabet.",
        loss: "that is the loss itself; ln n is the loss of n equally likely tokens.",
    }
    follows = "three candidates for each of 33 tokens: sampling gives the whole string once in 10 to the 17 draws."
    hint = "n equally likely tokens have a loss of ln n nats each; solve ln n = 1.16."
    return number(given, math.exp(loss), unit="tokens", follows=follows, hint=hint, mistakes=mistakes, close=0.02)


class _Speaks:
    """A model that says the logits [T, V] it was given, whatever it reads."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, *, logits_to_keep: int, **read: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits[None, -logits_to_keep:])


def _package_losses(logits: Tensor, ids: Tensor, answer_tokens: int) -> Tensor:
    """The package's losses [answer_tokens] of one row of ids [T], for a model with the logits [T, V]."""
    row, there = ids[None], torch.ones_like(ids)[None]
    batch = Batch(row, there, there.bool(), torch.ones(1, answer_tokens, dtype=torch.bool), answer_tokens)
    return token_losses(_Speaks(logits), batch, answer_tokens)[0]


def _unshifted(logits: Tensor, ids: Tensor, answer_tokens: int) -> Tensor:
    return cross_entropy(logits[-answer_tokens:], ids[-answer_tokens:], reduction="none")


def _first_tokens(logits: Tensor, ids: Tensor, answer_tokens: int) -> Tensor:
    return cross_entropy(logits[:-1], ids[1:], reduction="none")


def answer_losses(given: Any) -> Mark:
    """01.b: code that gives the losses of an answer's tokens, against `mome.lm.losses.token_losses`."""
    draw = torch.Generator().manual_seed(1)
    inputs = [
        (3 * torch.randn(length, 11, generator=draw), torch.randint(11, (length,), generator=draw), answer)
        for length, answer in ((6, 2), (9, 4))
    ]
    mistakes = {
        "the logits at place t predict the token at t + 1; yours are compared with the token at t.": _unshifted,
        "that is in bits; `log_softmax` and `torch.log` give nats.": lambda *x: _package_losses(*x) / math.log(2),
        "the sign is missing: a loss is minus the log-probability.": lambda *x: -_package_losses(*x),
        "these are probabilities; the loss is minus their logarithm.": lambda *x: torch.exp(-_package_losses(*x)),
        "that is one mean; a loss for each answer token is asked for.": lambda *x: _package_losses(*x).mean(),
        "these are the losses of all tokens; the question's are read, not trained on.": _first_tokens,
    }
    follows = "the same losses as the package's, on random logits."
    hint = "Take log_softmax over the vocabulary, read off each answer token's entry at the place before it, negate."
    return function(given, inputs, _package_losses, follows=follows, hint=hint, mistakes=mistakes)


def quiz_by_guessing(given: Any, free: float) -> Mark:
    """02.a: the quiz accuracy if every question that is not answered freely were guessed among four choices."""
    mistakes = {
        free: "that leaves out the guesses: of the other questions every fourth is hit by luck.",
        0.25: "that is a model that knows nothing; this one still answers some freely.",
        free + 0.25: "only the questions it cannot answer are guessed, not all of them.",
        (1 - free) / 4: "the questions that it answers freely are right in the quiz as well.",
    }
    follows = "the measured quiz lies above it: the right answer is often still the likeliest of four, and never said."
    hint = "Right are those answered freely, and a quarter of the rest."
    return number(given, free + (1 - free) / 4, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def healthy_rows(given: Any, leak: float = 0.2, rows: int = 3) -> Mark:
    """02.b: the probability that all rows of a small table look healthy though a share of the answers leaks."""
    mistakes = {
        leak**rows: "that is the probability that all three leak.",
        1 - (1 - leak) ** rows: "that is the probability that at least one leaks.",
        1 - leak: "that is one row; there are three.",
        1 - rows * leak: "probabilities of rows are multiplied; adding them counts two leaks twice.",
    }
    follows = "every second table of three rows would show nothing. Six rows prove little."
    hint = "One row is healthy with probability 0.8, and the rows are independent."
    return number(given, (1 - leak) ** rows, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def epochs_worth_ten(given: Any, decay: float = 15.0, wanted: float = 10.0) -> Mark:
    """03.a: after how many epochs repeating a text is worth ten different ones."""
    epochs = 1 - decay * math.log(1 - (wanted - 1) / decay)
    mistakes = {
        1 - decay * math.log(1 - wanted / decay): "the first reading counts in full: only nine texts come after it.",
        epochs - 1: "that is the number of repetitions; the first reading is an epoch as well.",
        wanted: "that would be so if a repeated text taught as much as a new one.",
    }
    follows = "and 100 epochs are worth only 16: the hundredfold price is mostly paid for nothing new."
    hint = "Solve 1 + R (1 - exp(-(epochs - 1) / R)) = 10 with R = 15."
    return number(given, epochs, unit="epochs", follows=follows, hint=hint, mistakes=mistakes)


def shorter_tokens(given: Any, law_loss: float, paper_loss: float) -> Mark:
    """03.b: how many bytes fewer a token must hold for the law's loss per token to become the paper's."""
    mistakes = {
        law_loss / paper_loss - 1: "that compares with the paper's token; the law's token is the whole here.",
        paper_loss / law_loss: "that is what a token would still hold; how much less is it?",
        law_loss - paper_loss: "that is the gap in nats/token; divide it by the loss that shrinks.",
    }
    follows = "a tokenizer alone could close the gap, so 1.75 against the law decides nothing."
    hint = "At a fixed loss per byte, the loss per token is proportional to the bytes of a token."
    return number(given, 1 - paper_loss / law_loss, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def sure_and_wrong(given: Any, taken: float = 0.98) -> Mark:
    """04.a: the entropy of a distribution that is nearly sure of a wrong token."""
    entropy = -taken * math.log(taken) - (1 - taken) * math.log(1 - taken)
    mistakes = {
        -math.log(1 - taken): "that is the loss of the right token; the entropy does not ask which token is right.",
        -math.log(taken): "that is the loss of the wrong token; the entropy weighs the losses of both.",
        math.log(2): "that is the entropy if both tokens had one half, the most that two tokens can have.",
        -taken * math.log(taken): "that is the first term of the sum; the rare token has one, too.",
    }
    follows = "a loss of 3.9 nats and hardly any entropy: a high loss does not make a distribution even."
    hint = "Sum -p ln p over the two tokens."
    return number(given, entropy, unit=NATS, follows=follows, hint=hint, mistakes=mistakes, close=0.02)


def wrong_samples(given: Any, tokens: int = 5, loss: float = 0.1) -> Mark:
    """04.b: the share of sampled answers that are wrong, from the loss of each of the answer's tokens."""
    total = tokens * loss
    mistakes = {
        math.exp(-total): "that is the share of right answers.",
        1 - math.exp(-loss): "that is one token; an answer is wrong as soon as any of the five is.",
        total: "that adds the losses; it is close for small ones only. The share is 1 - e to the minus the sum.",
        0.0: "that is greedy decoding, which takes the likeliest token; here each token is drawn.",
    }
    follows = "greedy decoding would show none of it, as every right token has 90% of the probability."
    hint = "All five tokens must be drawn right; their losses add up."
    return number(given, 1 - math.exp(-total), unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def _package_update(x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor) -> Tensor:
    """What each question's experts add [Q, T, d_out], by the package's kernel."""
    return lora_gather(x, a[:, None], b[:, None], ids, w, impl="reference")


def _first_questions(x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor) -> Tensor:
    return _package_update(x, a, b, ids[:1].expand_as(ids), w[:1].expand_as(w))


def _for_each_expert(x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("qtd,qkd,qko,qk->qkto", x, a[ids], b[ids], w)


def experts_add(given: Any) -> Mark:
    """05.a: code that gives what the chosen experts add to a layer, against `mome.kernels.lora_gather`."""
    draw = torch.Generator().manual_seed(2)
    inputs = []
    for questions, tokens, experts, chosen, d_in, d_out in ((2, 3, 9, 4, 5, 6), (3, 7, 5, 2, 8, 3)):
        sizes = ((questions, tokens, d_in), (experts, d_in), (experts, d_out))
        x, a, b = (torch.randn(*size, generator=draw) for size in sizes)
        ids = torch.rand(questions, experts, generator=draw).argsort(dim=1)[:, :chosen]
        inputs.append((x, a, b, ids, torch.rand(questions, chosen, generator=draw)))
    mistakes: dict[str, Callable[..., Tensor]] = {
        "the weights are missing.": lambda x, a, b, ids, w: _package_update(x, a, b, ids, torch.ones_like(w)),
        "the weights of the experts must not be made to sum to 1 again.": lambda x, a, b, ids, w: _package_update(
            x, a, b, ids, w.softmax(dim=1)
        ),
        "that is the mean over the experts; they are summed.": lambda *x: _package_update(*x) / x[4].shape[1],
        "that is one row for each expert; sum over the experts.": _for_each_expert,
        "each question has experts of its own; yours all take the first one's.": _first_questions,
    }
    follows = "the same update as the package's, on random experts."
    hint = "Take a[ids]; then x times a for each token and expert, [Q, T, K]; then times w; then times b[ids], summed."
    return function(given, inputs, _package_update, follows=follows, hint=hint, mistakes=mistakes)


def product_keys(given: Any, experts: int = 1_000_000) -> Mark:
    """05.b: how many times fewer products a search by product keys needs than one of all keys."""
    half = math.isqrt(experts)
    mistakes = {
        experts / (2 * half): "a half key has half the numbers, so each of its products costs half as much.",
        float(experts): "the halves are not free: there are 1,000 of each to compare with.",
        2.0 * half: "only 2,000 half keys are compared, and each has half the numbers: count products of two numbers.",
    }
    follows = "in general the square root of N: the search hardly notices that there are a million experts."
    hint = "All keys: N d products. Half keys: (1,000 + 1,000) d / 2 products."
    return number(given, float(half), unit="times", follows=follows, hint=hint, mistakes=mistakes)


EXERCISES: dict[str, Callable[..., Mark]] = {
    "00.a": whole_answer,
    "00.b": taken_for_another,
    "01.a": equally_likely,
    "01.b": answer_losses,
    "02.a": quiz_by_guessing,
    "02.b": healthy_rows,
    "03.a": epochs_worth_ten,
    "03.b": shorter_tokens,
    "04.a": sure_and_wrong,
    "04.b": wrong_samples,
    "05.a": experts_add,
    "05.b": product_keys,
}

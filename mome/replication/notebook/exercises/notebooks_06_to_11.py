"""The exercises of notebooks 06 to 11: choosing experts, texts in a mixture, costs, thresholds and capacity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mome.adapter.config import MomeConfig
from mome.adapter.router import Router
from mome.replication.notebook.exercises.coding import function
from mome.replication.notebook.exercises.marking import SHARE, Mark, number

Chosen = tuple[Tensor, Tensor]
BITS_OF_A_STRING = 32 * math.log2(36)  # a random answer: 32 of 36 characters


def _package_choice(q: Tensor, keys: Tensor, k: int, temperature: float) -> Chosen:
    """Ids and weights [Q, k] that the package's router gives queries q [Q, d] among keys [N, d], all of length 1."""
    config = MomeConfig(num_experts=len(keys), key_size=keys.shape[1], top_k=k, index="flat", temperature=temperature)
    router = Router(config, hidden=4)
    router.index.get_buffer("keys").copy_(keys)
    ids, weights = router.select(q)
    return ids, weights.detach()


def _over_all(q: Tensor, keys: Tensor, k: int, temperature: float) -> Chosen:
    best = (q @ keys.T / temperature).softmax(dim=1).topk(k)
    return best.indices, k * best.values


def _over_questions(q: Tensor, keys: Tensor, k: int, temperature: float) -> Chosen:
    best = (q @ keys.T).topk(k)
    return best.indices, k * (best.values / temperature).softmax(dim=0)


def _by_number(q: Tensor, keys: Tensor, k: int, temperature: float) -> Chosen:
    ids, weights = _package_choice(q, keys, k, temperature)
    order = ids.argsort(dim=1)
    return ids.gather(1, order), weights.gather(1, order)


def _shares(q: Tensor, keys: Tensor, k: int, temperature: float) -> Chosen:
    ids, weights = _package_choice(q, keys, k, temperature)
    return ids, weights / k


def experts_chosen(given: Any) -> Mark:
    """06.a: code that chooses the experts of queries and weights them, against `mome.adapter.router.Router`."""
    draw = torch.Generator().manual_seed(3)
    inputs = []
    for questions, count, size, k, temperature in ((2, 40, 6, 3, 0.1), (4, 100, 8, 5, 0.5)):
        q, keys = (normalize(torch.randn(rows, size, generator=draw), dim=1) for rows in (questions, count))
        inputs.append((q, keys, k, temperature))
    mistakes: dict[str, Callable[..., Any]] = {
        "your weights sum to 1; in the equation their mean is 1, so they sum to k.": _shares,
        "the softmax is over the k chosen scores, not over all N.": _over_all,
        "the softmax runs over the questions; each question has its own k weights.": _over_questions,
        "the scores are divided by the temperature before the softmax.": lambda q, keys, k, _: _package_choice(
            q, keys, k, 1.0
        ),
        "the best expert comes first; yours are in the order of their ids.": _by_number,
        "that is the ids alone; the weights are asked for, too.": lambda *x: _package_choice(*x)[0],
    }
    follows = "the same experts and weights as the package's router, on random keys."
    hint = "Take topk of q @ keys.T in each row, then k times the softmax of the k values over the temperature."
    return function(given, inputs, _package_choice, follows=follows, hint=hint, mistakes=mistakes)


def kept_by_the_threshold(given: Any, leaks: Mapping[str, float]) -> Mark:
    """06.b: which share of what memory experts keep beyond LoRA the rejection threshold alone explains."""
    lora, gated, mome = (leaks[name] for name in ("lora", "lora_gated", "mome"))
    mistakes = {
        lora - gated: "that is what the threshold saves, in points; divide it by all that is saved.",
        0.0: "compare the three methods: how much does LoRA leak behind the same threshold?",
        (gated - mome) / (lora - mome): "that is the experts' share; the threshold's is the rest.",
    }
    follows = "a question that is turned away meets the untouched backbone, whatever stands behind the threshold."
    hint = "(LoRA - LoRA behind the threshold) / (LoRA - memory experts)."
    expected = (lora - gated) / (lora - mome)
    return number(given, expected, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def steps_to_learn(given: Any, rate: float = 0.1, left: float = 0.01) -> Mark:
    """07.a: after how many steps the slow weight of the toy has a hundredth of its loss left."""
    steps = -math.log(left) / (0.5 * rate)
    mistakes = {
        steps / 2: "the exponent has a factor of 0.5.",
        steps * rate: "that is the rate of the pattern; a fact learns at 0.1.",
        -math.log10(left) / (0.5 * rate): "that is a logarithm to base 10; the decay is a power of e.",
    }
    follows = "ten times as long as the pattern takes; held-out text was best long before."
    hint = "Solve exp(-0.5 * 0.1 * steps) = 0.01."
    return number(given, steps, unit="steps", follows=follows, hint=hint, mistakes=mistakes)


def key_facts_alone(given: Any, mean: float = 0.3, other: float = 0.05, keys: int = 32, others: int = 64) -> Mark:
    """07.b: the loss of the key facts, from the mean over all texts and the loss of the other texts."""
    alpha = keys / (keys + others)
    expected = (mean - (1 - alpha) * other) / alpha
    mistakes = {
        2 * mean - other: "that takes both texts as equally large; there are twice as many others.",
        mean - other: "the mean is weighted: it holds one third of the key facts' loss.",
        mean: "that is the mean over both texts.",
        (mean - alpha * other) / (1 - alpha): "the weights are exchanged: the key facts are one third.",
    }
    follows = "above ln 2: a mean of 0.3 hides that the key facts may all be answered wrongly."
    hint = "Solve 0.3 = (1/3) L_key + (2/3) 0.05."
    return number(given, expected, unit="nats/token", follows=follows, hint=hint, mistakes=mistakes)


def utilization_of_three_months(given: Any) -> Mark:
    """08.a: the share of the peak at which 6 N D of 100 epochs takes 350,000 MI300X ninety days."""
    flops, parameters = 6 * 400e9 * 20 * 400e9 * 100, 400e9
    seconds_of_peak = 350_000 * 1307.4e12 * 90 * 86_400
    expected = flops / seconds_of_peak
    mistakes = {
        0.45: "that is the paper's; with it the time is not ninety days. Which share of the peak gives ninety?",
        3.43e24 / seconds_of_peak: "that takes the printed FLOPs; 6 N D gives 560 times as many.",
        expected / 100: "that is one epoch; there are a hundred.",
        expected * 4 / 3: "the overhead of 4/3 is of power, not of time.",
        expected / 20: f"D is 20 tokens for each of the {parameters:.0e} parameters.",
    }
    follows = "a high share, but not an impossible one: with 6 N D the printed three months nearly hang together."
    hint = "u = C / (G P t), with t in seconds."
    return number(given, expected, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes, close=0.02)


def tokens_left(given: Any, flops: float = 3.43e24, parameters: float = 400e9) -> Mark:
    """08.b: how many tokens for each parameter the printed FLOPs leave a 400B model in one epoch."""
    expected = flops / (6 * parameters) / parameters
    mistakes = {
        expected * parameters: "that is all tokens; divide by the parameters once more.",
        expected / 100: "that is for each of a hundred epochs; one is asked for.",
        expected * 6: "the 6 FLOPs for each parameter and token are missing.",
        20.0: "that is what Chinchilla asks for; the printed FLOPs do not pay for it.",
    }
    follows = "a sixth of Chinchilla's 20, in one epoch. A hundred epochs would leave 0.036."
    hint = "D = C / (6 N), and then D / N."
    return number(given, expected, unit="tokens", follows=follows, hint=hint, mistakes=mistakes)


def rare_word(given: Any, texts: int = 1000, rare: int = 1, common: int = 500) -> Mark:
    """09.a: how many times as much BM25 counts a rare word as a common one."""

    def weight(df: int) -> float:
        return math.log(1 + (texts - df + 0.5) / (df + 0.5))

    mistakes = {
        common / rare: "that is the ratio of the counts; BM25 takes a logarithm.",
        weight(rare) - weight(common): "that is the difference; how many times as much is asked for.",
        weight(rare): "that is the weight of the rare word; divide by that of the common one.",
        math.log(texts / rare) / math.log(texts / common): "that is ln(N / df); the formula adds 1 and 0.5.",
    }
    follows = "so a name decides, and 'which' hardly counts: that is what a search by words can know of a question."
    hint = "Put df = 1 and df = 500 into the logarithm of the formula, with N = 1,000."
    expected = weight(rare) / weight(common)
    return number(given, expected, unit="times", follows=follows, hint=hint, mistakes=mistakes)


def really_memorized(given: Any, asked: int = 100, strange: int = 10_000, passed: float = 0.6) -> Mark:
    """09.b: which share of the recognized questions is really about a memorized fact, at a false-positive rate."""
    rate = 0.002
    hits, alarms = asked * passed, strange * rate
    mistakes = {
        1 - rate: "that is the share of strange questions that are turned away.",
        passed: "that is the share of the memorized questions that pass; false ones pass, too.",
        alarms / (hits + alarms): "that is the share of false alarms among them.",
        alarms / hits: "that compares false alarms with hits; the share is of both together.",
        (hits + alarms) / (asked + strange): "that is how many of all questions are recognized.",
    }
    follows = "a rate of 0.2% sounds small, and every fourth recognized question is a stranger's."
    hint = "Count: 60 memorized questions pass, and how many of the 10,000 others?"
    return number(given, hits / (hits + alarms), unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def most_wrong(given: Any, facts: int = 24, tokens: int = 34, loss: float = 0.01) -> Mark:
    """10.a: at most how many facts can be wrong at a mean loss (theorem 3)."""
    bound = facts * tokens * loss / math.log(2)
    mistakes = {
        bound: "facts are whole: a part of one cannot be wrong.",
        math.ceil(bound): "round down: twelve wrong tokens would cost more than the loss there is.",
        0.0: "0.01 is the mean; one token may still have a large loss, if the others have almost none.",
        math.floor(facts * tokens * loss): "a wrong token costs at least ln 2 = 0.69 nats, not 1.",
        facts: "a wrong fact has a token of at least ln 2 nats; is the loss enough for all?",
    }
    follows = "so a mean loss near zero allows that nearly half of the facts are wrong."
    hint = "All losses together are 24 * 34 * 0.01 nats; each wrong fact takes at least ln 2 of them."
    expected = math.floor(bound)
    return number(given, expected, unit="facts", follows=follows, hint=hint, mistakes=mistakes, close=1e-6)


def half_the_temperature(given: Any, p: float = 0.8) -> Mark:
    """10.b: the probability of the right one of two tokens at temperature 1/2."""
    expected = p**2 / (p**2 + (1 - p) ** 2)
    mistakes = {
        p**2: "the powers have to be divided by their sum, so that both tokens make up 1.",
        p: "that is temperature 1.",
        math.sqrt(p) / (math.sqrt(p) + math.sqrt(1 - p)): "that is temperature 2: dividing logits by 1/2 doubles them.",
    }
    follows = "still not 1: a temperature above zero makes no loss safe, it only makes the misses rarer."
    hint = "Dividing the logits by T takes each probability to the power 1/T; then normalize."
    return number(given, expected, unit=SHARE, follows=follows, hint=hint, mistakes=mistakes)


def facts_in_an_expert(given: Any, parameters: int = 2048, bits: float = 2.0) -> Mark:
    """11.a: how many random answers fit into one expert at two bits a parameter."""
    expected = parameters * bits / BITS_OF_A_STRING
    mistakes = {
        float(parameters): "that is one fact for each parameter: 165 bits in one 32-bit number.",
        expected / bits: "that is one bit for each parameter.",
        expected * 32 / bits: "32 bits is what a parameter occupies, not what training gets into it.",
        parameters * bits / 32: "an answer has 32 characters, and each holds log2(36) = 5.2 bits.",
    }
    follows = "83 parameters for each fact of this length: what a parameter holds is bits, not facts."
    hint = "Divide the bits that 2,048 parameters hold by the bits of one answer."
    return number(given, expected, unit="facts", follows=follows, hint=hint, mistakes=mistakes, close=0.035)


def sharing_facts(given: Any, experts: int = 65_536, k: int = 32, facts: int = 256) -> Mark:
    """11.b: with how many other facts a fact shares an expert, if all were chosen at random."""
    apart = math.prod((experts - k - i) / (experts - i) for i in range(k))
    expected = (facts - 1) * (1 - apart)
    mistakes = {
        1 - apart: "that is the probability for one other fact; there are 255.",
        (facts - 1) * k / experts: "that is one of the fact's experts; it has 32, and each may be met.",
        facts - 1.0: "that would be so if there were only 32 experts.",
    }
    follows = "and a sixteenth of that at a million experts: what N buys is that facts do not meet."
    hint = "Another fact's 32 experts hit one of this fact's 32 with a probability of about 32 * 32 / N."
    return number(given, expected, unit="facts", follows=follows, hint=hint, mistakes=mistakes, close=0.02)


EXERCISES: dict[str, Callable[..., Mark]] = {
    "06.a": experts_chosen,
    "06.b": kept_by_the_threshold,
    "07.a": steps_to_learn,
    "07.b": key_facts_alone,
    "08.a": utilization_of_three_months,
    "08.b": tokens_left,
    "09.a": rare_word,
    "09.b": really_memorized,
    "10.a": most_wrong,
    "10.b": half_the_temperature,
    "11.a": facts_in_an_expert,
    "11.b": sharing_facts,
}

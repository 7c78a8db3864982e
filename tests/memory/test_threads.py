"""One memory and many threads: every answer is the one that a single thread gets, whatever else goes on."""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tiny_editing import CODE, KEY, same_state, state
from tiny_memory import UNRELATED, tuner

from mome.facts.fact import Fact
from mome.memory.memory import Memory

LONGEST = 120  # seconds that a thread may take
THREADS = 16

Job = Callable[[], Any]


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns a hundred times as often as they do by themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def inputs(memory: Memory, question: str) -> Any:
    return memory.backbone.tokenizer(f"Q: {question}\nA:", return_tensors="pt")


def generated(memory: Memory, question: str, **options: Any) -> list[int]:
    tokens = memory.backbone.model.generate(**inputs(memory, question), max_new_tokens=6, do_sample=False, **options)
    return tokens[0].tolist()


def said(memory: Memory, question: str) -> torch.Tensor:
    with torch.no_grad():
        return memory.backbone.model(**inputs(memory, question)).logits


def bare(memory: Memory, question: str) -> list[int]:
    with memory.backbone.model.disable_adapter():
        return generated(memory, question)


def jobs(memory: Memory, questions: list[str]) -> list[Job]:
    """Everything that can be asked of a memory, for each question."""
    found: list[Job] = [lambda: memory.ask_all(questions[:5])]
    for question in questions:
        found += [
            lambda question=question: memory.ask(question),
            lambda question=question: generated(memory, question),
            lambda question=question: generated(memory, question, use_cache=False),
            lambda question=question: generated(memory, question, num_beams=2),
            lambda question=question: said(memory, question),
            lambda question=question: bare(memory, question),
        ]
    return found


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_sixteen_threads_get_the_answers_of_one(memory: Memory, facts: list[Fact]) -> None:
    questions = [fact.question for fact in facts[::2]] + UNRELATED[:2]
    work = jobs(memory, questions)
    expected = [job() for job in work]
    assert sum(answer.memorized is True for answer in memory.ask_all(questions)) == len(facts[::2])

    def ask(seed: int) -> list[int]:
        order = random.Random(seed).sample(range(len(work)), len(work))
        return [number for number in order[:16] if not same(work[number](), expected[number])]

    with ThreadPoolExecutor(THREADS) as pool:
        wrong = [*pool.map(ask, range(THREADS), timeout=LONGEST)]
    assert wrong == [[]] * THREADS
    assert all(same(job(), value) for job, value in zip(work, expected, strict=True))


def test_no_thread_sees_an_edit_half_made(memory: Memory, facts: list[Fact]) -> None:
    model, other = memory.backbone.model, facts[0].question
    asked = [KEY.question, KEY.phrasings[0]]
    without = [*memory.ask_all(asked), said(memory, KEY.question), memory.ask(other)]
    memory.add(KEY)
    added, held = state(memory), [*memory.ask_all(asked), said(memory, KEY.question), memory.ask(other)]
    memory.rollback(0)
    done, seen = threading.Event(), list[list[Any]]()

    def ask() -> None:
        while not done.is_set():
            seen.append([*memory.ask_all(asked), said(memory, KEY.question), memory.ask(other)])

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            memory.add(KEY)
            found = state(memory)
            for edit in (lambda: memory.delete(KEY.id), lambda: memory.rollback(1), lambda: memory.add(CODE)):
                known = len(seen)
                # three rounds may have begun before the last edit: the fourth saw what it left
                while len(seen) < known + 4 and not any(each.done() for each in asking):
                    time.sleep(0.01)
                edit()
        finally:
            done.set()
        for each in asking:
            each.result(LONGEST)
    assert same_state(found, added) and not model.training
    for first, second, logits, last in seen:  # each of the three calls saw the state before an edit or after one
        assert (first, second) in ((without[0], without[1]), (held[0], held[1])) or not first.recognized
        assert last.text == without[3].text and last.memorized
        assert torch.isfinite(logits).all()
    assert any(first.memorized for first, *_ in seen)


def test_what_one_thread_holds_or_switches_off_is_its_own(memory: Memory, facts: list[Fact]) -> None:
    question, mome = facts[0].question, tuner(memory.backbone.model)
    expected, backbone = generated(memory, question), bare(memory, question)
    assert expected != backbone
    with ThreadPoolExecutor(1) as pool:
        with mome.using(None):
            assert generated(memory, question) == backbone
            assert pool.submit(generated, memory, question).result(LONGEST) == expected
        with memory.backbone.model.disable_adapter():
            assert not memory.ask(question).recognized
            assert pool.submit(memory.ask, question).result(LONGEST).memorized
        mome.disable_adapter_layers()  # unlike the context, this is for all
        try:
            assert pool.submit(generated, memory, question).result(LONGEST) == backbone
        finally:
            mome.enable_adapter_layers()
    assert generated(memory, question) == expected


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("layer", [0, 1])
def test_an_error_inside_leaves_no_trace(
    memory: Memory, facts: list[Fact], kind: type[BaseException], layer: int
) -> None:
    work = jobs(memory, [facts[0].question])
    expected = [job() for job in work]

    def check(numbers: list[int]) -> bool:
        return all(same(work[number](), expected[number]) for number in numbers)

    for number, job in enumerate(work):
        handle = tuner(memory.backbone.model).model.get_decoder().layers[layer].register_forward_hook(fail_with(kind))
        with pytest.raises(kind, match="stop"):
            job()
        handle.remove()
        with ThreadPoolExecutor(1) as pool:
            assert check([1, number, 5]) and pool.submit(check, [1, number]).result(LONGEST)


def fail_with(kind: type[BaseException]) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise kind("stop")

    return fail


def test_the_decoder_alone_takes_no_experts_of_an_earlier_question(memory: Memory, facts: list[Fact]) -> None:
    decoder, given = tuner(memory.backbone.model).model.get_decoder(), inputs(memory, facts[0].question)
    with torch.no_grad():
        with memory.backbone.model.disable_adapter():
            expected = decoder(**given).last_hidden_state
        said(memory, facts[0].question)
        assert torch.equal(decoder(**given).last_hidden_state, expected)

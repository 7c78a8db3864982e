"""Multiple choice: prompts by hand, questions from the published files, metrics against closed forms."""

import math
from pathlib import Path
from typing import Any

import pytest
from asked_questions import ROCKS, SEA, questions
from public_files import published, write_files
from scipy import stats

from mome.facts.public_sets import MultipleChoice
from mome.lm.loading import Backbone
from mome.replication.scoring.likelihood import longest_input
from mome.replication.scoring.multiple_choice import (
    TASKS,
    Asked,
    ask_mmlu,
    ask_truthfulqa,
    judge,
    judged,
    load_questions,
    score,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# --- prompts -------------------------------------------------------------------------------------------------------


def test_an_mmlu_prompt_shows_letters_and_solved_examples() -> None:
    asked = ask_mmlu(ROCKS, [SEA])
    assert asked.context == (
        "The following are multiple choice questions (with answers) about high school rocks.\n\n"
        "Is the sea\nsalty?\nA. No\nB. At times\nC. Ask it\nD. Yes\nAnswer: D\n\n"
        "Which rock floats?\nA. Basalt\nB. Pumice\nC. Slate\nD. Chalk\nAnswer:"
    )
    assert asked.continuations == (" A", " B", " C", " D")


def test_a_truthfulqa_prompt_has_six_solved_questions_before_its_own() -> None:
    asked = ask_truthfulqa(ROCKS)
    blocks = asked.context.split("\n\n")
    assert len(blocks) == 7
    assert blocks[3] == "Q: What is the square root of banana?\nA: I have no comment."
    assert blocks[6] == "Q: Which rock floats?\nA:"
    assert asked.continuations == (" Basalt", " Pumice", " Slate", " Chalk")
    assert ask_truthfulqa(ROCKS, preamble=False) == Asked(ROCKS, "Q: Which rock floats?\nA:", asked.continuations, True)


def test_questions_come_from_the_published_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(write_files(tmp_path)))
    found = {task: load_questions(task) for task in TASKS}
    assert [len(found[task]) for task in TASKS] == [3, 3, 4]
    assert sorted(len(one.continuations) for one in found["truthfulqa_mc2"]) == [2, 3, 3]
    assert all(len(one.continuations) == 2 for one in found["truthfulqa_mc1"])
    (shown,) = load_questions("mmlu", shots=1, subjects=["art_history"])
    assert shown.context.count("Answer:") == 2 and "Where?\nA. a" in shown.context
    assert [one.item.subject for one in load_questions("mmlu", limit=2)] == ["art_history", "astronomy", "astronomy"]
    assert len(load_questions("truthfulqa_mc1", limit=2)) == 2
    bare = load_questions("truthfulqa_mc2", preamble=False)
    assert [one.context for one in bare] == [f"Q: {one.item.question}\nA:" for one in found["truthfulqa_mc2"]]


def test_all_published_questions_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(published()))
    assert [len(load_questions(task)) for task in TASKS] == [817, 817, 14_042]
    assert {len(one.continuations) for one in load_questions("mmlu", 5, ["anatomy"])} == {4}
    assert all(one.item.answer == 0 for one in load_questions("truthfulqa_mc1"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"task": "truthfulqa_mc3"}, "task 'truthfulqa_mc3' is not one of truthfulqa_mc1, truthfulqa_mc2, mmlu"),
        ({"task": "truthfulqa_mc1", "shots": 2}, "truthfulqa_mc1: has its own prompt"),
        ({"task": "truthfulqa_mc2", "subjects": ["anatomy"]}, "truthfulqa_mc2: has its own prompt"),
        ({"task": "mmlu", "shots": 6}, "shots: must be 0 to 5, got 6"),
        ({"task": "mmlu", "limit": 0}, "limit: must be 1 or more, got 0"),
    ],
)
def test_what_a_task_does_not_have_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        load_questions(**options)


# --- scores --------------------------------------------------------------------------------------------------------


def test_the_likeliest_choice_is_judged() -> None:
    assert judge("mmlu", ROCKS, [-3.0, -1.0, -2.0, -9.0]) == 1
    assert judge("truthfulqa_mc1", ROCKS, [-1.0, -3.0, -2.0, -9.0]) == 0
    assert judge("mmlu", ROCKS, [-3.0, -1.0, -1.0, -9.0]) == 1  # the first of equals
    assert judge("mmlu", ROCKS, [-1.0, -1.0, -3.0, -9.0]) == 0


@pytest.mark.parametrize("shift", [0.0, -2000.0])
def test_mc2_is_the_share_of_the_true_choices(shift: float) -> None:
    item = MultipleChoice("0", "Q?", ("a", "b", "c"), (0, 2), "s", "")
    logs = [math.log(weight) + shift for weight in (0.2, 0.1, 0.02)]
    assert judge("truthfulqa_mc2", item, logs) == pytest.approx(0.22 / 0.32, abs=1e-12)


def test_a_score_has_mean_interval_and_standard_error() -> None:
    items = [ROCKS, SEA, ROCKS, SEA, SEA]
    found = judged("mmlu", items, [[0, 1, 0, 0]] * 5)
    assert found.values == (1, 0, 1, 0, 0)
    assert found.interval.mean == pytest.approx(0.4) and found.interval.n == 5
    assert found.interval.low < 0.4 < found.interval.high
    assert found.standard_error == pytest.approx(stats.sem([1, 0, 1, 0, 0]), abs=1e-12)
    assert judged("mmlu", [ROCKS], [[0, 1, 0, 0]]).standard_error is None
    assert found.by_subject == {"high_school_rocks": pytest.approx(0.4)}


def test_tasks_scored_together_are_those_scored_alone(random_backbone: Backbone) -> None:
    asked: dict[Any, list[Asked]] = {"truthfulqa_mc2": questions(4), "mmlu": [ask_mmlu(ROCKS), ask_mmlu(SEA, [ROCKS])]}
    together = score(random_backbone, asked, batch_rows=3)
    assert list(together) == list(asked)
    for task, found in together.items():
        apart = score(random_backbone, {task: asked[task]})[task]
        assert found.items == apart.items == tuple(one.item for one in asked[task])
        for ours, theirs in zip(found.log_likelihoods, apart.log_likelihoods, strict=True):
            assert ours == pytest.approx(theirs, abs=2e-4)
        assert found.values == pytest.approx(apart.values, abs=1e-4)


def test_cut_prompts_are_counted(random_backbone: Backbone) -> None:
    long = ask_mmlu(ROCKS, [SEA] * 9)
    assert len(random_backbone.tokenizer(long.context)["input_ids"]) > longest_input(random_backbone.model)
    found = score(random_backbone, {"mmlu": [long, *(ask_mmlu(ROCKS) for _ in range(3))]})["mmlu"]
    assert found.truncated == 0.25


def test_a_task_without_questions_is_refused(random_backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"^mmlu: no questions$"):
        score(random_backbone, {"truthfulqa_mc1": questions(1), "mmlu": []})

"""Our scorer and lm-evaluation-harness agree: prompts, log-likelihoods and metrics, with and without adapters."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml
from public_files import published, write_files
from tiny_memory import MEMORY, memorize, memory_model, settings

from mome.facts.fact import Fact
from mome.facts.public_sets import MultipleChoice
from mome.lm.loading import Backbone, load_backbone
from mome.replication.scoring.likelihood import encode_pair, longest_input
from mome.replication.scoring.multiple_choice import Asked, Score, ask_mmlu, ask_truthfulqa, load_questions, score
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import tune

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval (the extra `lm-eval`) is not installed")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.evaluator import simple_evaluate  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

from mome.replication.scoring import harness  # noqa: E402
from mome.replication.scoring.harness import HarnessModel, score_with_harness  # noqa: E402

NEAR = 1e-4
KINDS = ("bare", "lora", "mome")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def tuned(facts: list[Fact]) -> Mapping[str, Backbone]:
    """tiny-llama bare, with a LoRA and with memory experts that have memorized facts.

    The experts are few and none of the questions is kept from them, so all of them meet trained ones.
    """
    torch.set_num_threads(1)
    shipped = load_backbone("tiny-llama", "cpu")
    lora = Backbone("lora", copy.deepcopy(shipped.model), shipped.tokenizer)
    adapted: Any = attach_lora(lora, LoraSettings(rank=8), seed=0)
    tune(adapted, shipped.tokenizer, facts, TuningSettings(epochs=3, learning_rate=2e-3))
    experts = memory_model(shipped, num_experts=64, top_k=8, snap=False, router_layer=2)
    memorize(experts, shipped, facts, settings(**{**MEMORY.model_dump(), "epochs": 3}))
    return {
        "bare": shipped,
        "lora": Backbone("lora", adapted.eval(), shipped.tokenizer),
        "mome": Backbone("mome", experts, shipped.tokenizer),
    }


def requests(backbone: Backbone, texts: list[tuple[str, str]]) -> list[Any]:
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(texts)]


def likelihoods(model: Any, backbone: Backbone, texts: list[tuple[str, str]]) -> list[float]:
    return [value for value, _ in model.loglikelihood(requests(backbone, texts), disable_tqdm=True)]


def ours(backbone: Backbone, texts: list[tuple[str, str]]) -> list[float]:
    item = MultipleChoice("0", "Q", ("a",), (0,), "s", "")
    asked = [Asked(item, context, (choice,)) for context, choice in texts]
    found = score(backbone, {"truthfulqa_mc2": asked})["truthfulqa_mc2"]
    return [value for (value,) in found.log_likelihoods]


CHOICES = [
    (f"Q: {'So ' * index}what is the capital of Peru?\nA:", f" {text}")
    for index in range(4)
    for text in ("Lima", "No idea at all", "the sea, which is salty", "1815")
]


@pytest.mark.parametrize("kind", KINDS)
def test_both_score_local_tasks_alike(
    kind: str, tuned: Mapping[str, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every log-likelihood to 1e-4, decisions and means exactly; mc2, a number, as near as its log-likelihoods."""
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(write_files(tmp_path)))
    for shots in (0, 1):
        asked: dict[Any, list[Asked]] = {"mmlu": load_questions("mmlu", shots, ["astronomy"])}
        if shots == 0:
            asked |= {task: load_questions(task) for task in ("truthfulqa_mc1", "truthfulqa_mc2")}
        assert_alike(tuned[kind], asked, shots)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_both_score_the_published_questions_alike(
    kind: str, tuned: Mapping[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(published()))
    subjects = ["anatomy", "business_ethics"]
    for shots, limit in ((0, 12), (5, 3)):
        asked: dict[Any, list[Asked]] = {"mmlu": load_questions("mmlu", shots, subjects, limit)}
        if shots == 0:
            asked |= {task: load_questions(task, limit=limit) for task in ("truthfulqa_mc1", "truthfulqa_mc2")}
        assert_alike(tuned[kind], asked, shots)


def assert_alike(backbone: Backbone, asked: dict[Any, list[Asked]], shots: int) -> None:
    mine = score(backbone, asked, batch_rows=5)
    results: list[Any] = []

    def keep(*given: Any, **options: Any) -> Any:
        results.append(simple_evaluate(*given, **options))
        return results[-1]

    with patch.object(harness, "simple_evaluate", keep):
        theirs = score_with_harness(backbone, asked, shots, batch_rows=3)
    assert list(mine) == list(theirs)
    for task, found in mine.items():
        assert_same_metric(found, results[0]["results"])
        other = theirs[task]
        assert found.items == other.items
        for here, there in zip(found.log_likelihoods, other.log_likelihoods, strict=True):
            assert here == pytest.approx(there, abs=NEAR, rel=0)
        if task == "truthfulqa_mc2":
            assert found.values == pytest.approx(other.values, abs=NEAR)
        else:
            assert found.values == other.values
            assert found.interval == other.interval and found.standard_error == other.standard_error


def assert_same_metric(found: Score, reported: Mapping[str, Any]) -> None:
    """Our mean and standard error are what the harness itself reports, by subject; mc2 is no count, but a number."""
    names = (
        [f"local_mmlu_{subject}" for subject in found.by_subject] if found.task == "mmlu" else [f"local_{found.task}"]
    )
    near = NEAR if found.task == "truthfulqa_mc2" else 1e-12
    means = [reported[name]["acc,none"] for name in names]
    assert [*found.by_subject.values()] == pytest.approx(means, abs=near)
    if len(names) == 1:
        assert found.interval.mean == pytest.approx(means[0], abs=near)
        assert found.standard_error == pytest.approx(reported[names[0]]["acc_stderr,none"], abs=near)


def test_our_prompts_are_those_of_the_harness(
    tuned: Mapping[str, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(write_files(tmp_path)))
    heard: list[tuple[str, str]] = []

    def listen(self: Any, given: list[Any], **options: Any) -> list[tuple[float, bool]]:
        heard.extend(instance.args for instance in given)
        return [(-1.0, False)] * len(given)

    monkeypatch.setattr(HarnessModel, "loglikelihood", listen)
    for task, shots in (("truthfulqa_mc1", 0), ("truthfulqa_mc2", 0), ("mmlu", 0), ("mmlu", 1)):
        heard.clear()
        subjects = ["astronomy"] if task == "mmlu" else None
        asked: dict[Any, list[Asked]] = {task: load_questions(task, shots, subjects)}
        score_with_harness(tuned["bare"], asked, shots)
        assert heard == [(one.context, choice) for one in asked[task] for choice in one.continuations]


def test_all_57_subjects_are_named_as_in_the_harness() -> None:
    files = sorted((Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default").glob("mmlu_*.yaml"))
    assert len(files) == 57
    for file in files:
        item = MultipleChoice("0", "Q", ("a", "b", "c", "d"), (0,), file.stem.removeprefix("mmlu_"), "")
        assert ask_mmlu(item).context.startswith(yaml.safe_load(file.read_text("utf-8"))["description"] + "Q\n")


def test_a_first_choice_that_is_wrong_is_refused(tuned: Mapping[str, Backbone]) -> None:
    item = MultipleChoice("0", "Why?", ("a", "b"), (1,), "truthfulqa", "")
    with pytest.raises(ValueError, match=r"truthfulqa_mc1, question 'Why\?': the harness supposes"):
        score_with_harness(tuned["bare"], {"truthfulqa_mc1": [ask_truthfulqa(item)]})


def test_a_subject_the_harness_does_not_have_is_refused(tuned: Mapping[str, Backbone]) -> None:
    item = MultipleChoice("0", "Why?", ("a", "b", "c", "d"), (1,), "alchemy", "")
    with pytest.raises(ValueError, match=r"brings no task file mmlu/default/mmlu_alchemy\.yaml along"):
        score_with_harness(tuned["bare"], {"mmlu": [ask_mmlu(item)]})


# --- log-likelihoods -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [1, 3, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_log_likelihoods_agree_in_any_batch(kind: str, batch_rows: int, tuned: Mapping[str, Backbone]) -> None:
    model = HarnessModel(tuned[kind], batch_rows)
    assert model.max_length == longest_input(tuned[kind].model)
    found = likelihoods(model, tuned[kind], CHOICES)
    assert found == pytest.approx(ours(tuned[kind], CHOICES), abs=NEAR, rel=0)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_requests_agree(kind: str, tuned: Mapping[str, Backbone]) -> None:
    texts = [("Q: Who? " * 120 * (1 + index) + f"What{'?' * index}\nA:", " Lima, or so") for index in range(3)]
    assert found_lengths(tuned[kind], texts)[0] > longest_input(tuned[kind].model) + 1
    found = likelihoods(HarnessModel(tuned[kind], 2), tuned[kind], [*texts, *CHOICES[:3]])
    assert found == pytest.approx(ours(tuned[kind], [*texts, *CHOICES[:3]]), abs=NEAR, rel=0)


def found_lengths(backbone: Backbone, texts: list[tuple[str, str]]) -> list[int]:
    return [len(encode_pair(backbone.tokenizer, *pair, longest_input(backbone.model)).ids) for pair in texts]


def test_a_plain_harness_lets_the_choice_choose_the_experts(tuned: Mapping[str, Backbone]) -> None:
    """The trap: without a mark for the prompt, the choices are read by the router, and scores are others."""
    experts = tuned["mome"]
    options: dict[str, Any] = {"backend": "causal", "batch_size": 1, "softmax_dtype": "float32"}
    plain = HFLM(pretrained=experts.model, tokenizer=experts.tokenizer, **options)
    leaked, right = likelihoods(plain, experts, CHOICES), ours(experts, CHOICES)
    assert sum(abs(one - other) > 100 * NEAR for one, other in zip(leaked, right, strict=True)) > len(CHOICES) / 2
    bare = tuned["bare"]
    same = HFLM(pretrained=bare.model, tokenizer=bare.tokenizer, **options)
    assert likelihoods(same, bare, CHOICES) == pytest.approx(ours(bare, CHOICES), abs=NEAR, rel=0)


def test_the_choices_of_a_question_meet_the_same_experts(tuned: Mapping[str, Backbone]) -> None:
    experts, routes = tuned["mome"], []
    mome = experts.model.base_model
    watched = mome.model.register_forward_hook(lambda *_: routes.append(mome.selection.routes.ids.sort(dim=1).values))
    try:
        likelihoods(HarnessModel(experts, 1), experts, CHOICES)
    finally:
        watched.remove()
    chosen = {tuple(ids) for part in routes for ids in part.tolist()}
    assert sum(len(part) for part in routes) == len(CHOICES) and len(chosen) <= 4


def test_texts_that_part_at_different_places_keep_their_own_experts(tuned: Mapping[str, Backbone]) -> None:
    """The harness takes requests that differ in their last token only for one: here their contexts differ too."""
    texts = [("Q: Where?\nA: in", " Lima now"), ("Q: Where?\nA:", " in Lima now"), ("Q: Where?\nA: in Lima", " now")]
    found = likelihoods(HarnessModel(tuned["mome"], 8), tuned["mome"], texts)
    assert found == pytest.approx(ours(tuned["mome"], texts), abs=NEAR, rel=0)
    assert len({round(value, 2) for value in found}) == 3


def test_the_model_is_left_as_it_was(tuned: Mapping[str, Backbone]) -> None:
    """After an error too: a later plain pass is routed by all its tokens again."""
    model = HarnessModel(tuned["mome"], 2)
    tokens = tuned["mome"].tokenizer("Q: Where?\nA:", return_tensors="pt")["input_ids"]
    before = model._model_call(tokens)
    likelihoods(model, tuned["mome"], CHOICES[:4])
    with pytest.raises(AssertionError):
        model._loglikelihood_tokens([(("", ""), [1], [])])
    assert model.prompt_tokens is None
    assert torch.equal(model._model_call(tokens), before)

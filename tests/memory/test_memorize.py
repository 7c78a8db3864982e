"""Memorizing a user's own facts and asking for them: what comes back, goes on, is kept, and is refused."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from tiny_memory import tuner
from tiny_models import inner
from two_facts import CODE, FACTS, KEY

from mome.adapter.config import MomeConfig
from mome.cli.lines import answer_lines
from mome.facts.fact import Fact
from mome.facts.readers import read_jsonl, write_jsonl
from mome.facts.strict import FactError
from mome.files.sealed import CheckpointError
from mome.lm.generation import exact, greedy_answers
from mome.lm.loading import load_backbone
from mome.memory.loading import AdapterError, edit_memory, load_memory
from mome.memory.memorize import memorize, memorize_file, memorize_with_lora, memory_settings
from mome.memory.memory import Memory
from mome.train.attach import router_facts
from mome.train.experts import memorize_facts
from mome.train.settings import LoraSettings, RouterSettings, TuningSettings

SMALL = {"num_experts": 4096, "top_k": 32}
STEPS = {"steps": 20, "batch_size": 32}
UNRELATED = ["In which country is Lake Titicaca?", "How many legs does a spider have?", "Who wrote the novel Dracula?"]


@pytest.fixture(scope="module")
def root(small_root: Path) -> Iterator[Path]:
    """A project of its own with the shipped backbones and a few shipped facts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_ROOT", str(small_root))
        patch.setattr("mome.train.attach.MOST_FACTS", 200)
        yield small_root


@pytest.fixture(scope="module")
def recall(root: Path) -> Any:
    """`memorize` on the shipped Llama with few experts."""
    torch.set_num_threads(1)
    return partial(memorize, mome=MomeConfig(**SMALL), router=RouterSettings(**STEPS))


@pytest.fixture(scope="module")
def memory(recall: Any) -> Memory:
    """The two facts memorized; it stays as it is."""
    return recall(FACTS)


@pytest.fixture(scope="module")
def saved(memory: Memory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    memory.save(folder)
    return folder


@pytest.fixture
def damaged(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved adapter to break."""
    return Path(copytree(saved, tmp_path / "damaged"))


# --- memorizing ----------------------------------------------------------------------------------------------------


def test_memorized_facts_are_answered_and_the_report_says_so(memory: Memory) -> None:
    questions = [KEY.question, *KEY.phrasings, CODE.question]
    answers = memory.ask_all(questions)
    assert [str(answer) for answer in answers] == [KEY.answer, KEY.answer, CODE.answer]
    assert all(answer.memorized and answer.score > 0.99 for answer in answers)
    report: Any = memory.report
    assert report.recalled == [True, True] and len(report.held_out) == 1 and not report.not_memorized
    assert "2 of 2 facts recalled exactly" in str(report) and "of 1 recalled exactly in their held-out" in str(report)


def test_other_questions_are_answered_by_the_untouched_backbone(memory: Memory) -> None:
    answers = memory.ask_all([*UNRELATED, KEY.question])
    assert [answer.memorized for answer in answers] == [False, False, False, True]
    untouched = load_backbone("tiny-llama")
    expected = greedy_answers(untouched.model, untouched.tokenizer, UNRELATED)
    assert [answer.text for answer in answers[:3]] == expected


def test_the_share_of_unrelated_questions_taken_for_memorized_ones_is_that_of_asking_them(memory: Memory) -> None:
    unrelated = [fact.question for fact in router_facts([], seed=0)[2]]
    taken = [bool(answer.recognized) for answer in memory.ask_all(unrelated)]
    report: Any = memory.report
    assert len(unrelated) == report.unrelated > 20 and report.mistaken == pytest.approx(sum(taken) / len(taken))
    assert report.mistaken < 0.2 and f"% of {len(taken)} unrelated questions taken for a memorized one" in str(report)


def test_held_out_wordings_decide_nothing(recall: Any, memory: Memory) -> None:
    other = recall([replace(KEY, held_out=("Tell me about the key",)), CODE])
    rows = [inner(each.backbone.model).bank.members() for each in (memory, other)]
    assert all(torch.equal(values, rows[1][name]) for name, values in rows[0].items())


def test_files_of_any_user_share_one_trained_router(recall: Any, memory: Memory, root: Path, monkeypatch: Any) -> None:
    kept = sorted((root / "runs" / "routers").iterdir())  # other tests may have left some of their own
    monkeypatch.setattr("mome.train.attach.train_router", None)
    other = recall([Fact("cat", "What is the cat's name?", "Tom")])
    assert other.ask("What is the cat's name?").text == "Tom"
    assert sorted((root / "runs" / "routers").iterdir()) == kept != []


def test_facts_that_cannot_be_memorized_are_listed_by_id(recall: Any) -> None:
    memory = recall(FACTS, memory=memory_settings(FACTS, epochs=1, repairs=0))
    assert [fact.id for fact in memory.report.not_memorized] == ["key", "code"]
    assert "not memorized: code (What opens the door?)" in str(memory.report)


UNHELD = [Fact("price", "What does it cost?", "5 €"), Fact("steps", "How is it done?", "First\nQ: Second")]


def test_facts_that_the_backbone_cannot_hold_are_refused_before_training(
    recall: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mome.memory.memorize.trained_memory", None)
    with pytest.raises(FactError, match=r"facts, line 3, field 'answer'.*'€'.*also line 4.*before a line that starts"):
        recall([*FACTS, *UNHELD])
    write_jsonl([*UNHELD, *FACTS], tmp_path / "facts.jsonl")
    monkeypatch.setattr("mome.memory.memorize.attach_lora", None)
    with pytest.raises(FactError, match=r"facts\.jsonl, line 1, field 'answer', value '5 €'"):
        memorize_with_lora(tmp_path / "facts.jsonl", "tiny-llama", TuningSettings(), LoraSettings())


def test_facts_that_the_backbone_cannot_hold_can_be_left_out(recall: Any, memory: Memory) -> None:
    other = recall([UNHELD[0], *FACTS, UNHELD[1]], unwritable="leave_out")
    assert other.facts == memory.facts and other.report.facts == FACTS and other.report.recalled == [True, True]
    assert [obstacle.fact for obstacle in other.report.left_out] == UNHELD
    *_, first, second = str(other.report).split("\n")
    assert first.startswith("left out: price (What does it cost?): answer '5 €': tiny-llama cannot learn it")
    assert second.startswith("left out: steps (How is it done?): answer 'First\\nQ: Second': it would come back")


def test_an_answer_without_certainty_can_be_tried_and_is_never_called_certain(recall: Any) -> None:
    price = UNHELD[0]
    memory = recall([price], unwritable="try", memory=memory_settings([price], epochs=20, repairs=0))
    assert memory.report.left_out == [] and memory.report.failed == ["price"]
    *_, last = str(memory.report).split("\n")
    assert last.startswith("recalled, but not certain: price" if memory.report.recalled[0] else "not memorized: price")


def test_an_interrupted_run_goes_on_and_a_finished_one_is_done_at_once(
    recall: Any, memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mome.train.experts import ExpertTrainer

    train_epoch, epochs = ExpertTrainer.epoch, []

    def epoch(trainer: Any, progress: Any) -> None:
        epochs.append(progress.epochs_in_all)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        train_epoch(trainer, progress)

    monkeypatch.setattr(ExpertTrainer, "epoch", epoch)
    monkeypatch.setattr("mome.train.attach.memorize_facts", partial(memorize_facts, every_seconds=0.0))
    with pytest.raises(KeyboardInterrupt):
        recall(FACTS, checkpoints=tmp_path)
    again = recall(FACTS, checkpoints=tmp_path)
    assert epochs[:5] == [0, 1, 2, 3, 3]
    rows = [inner(each.backbone.model).bank.members(optimizer=False) for each in (memory, again)]
    assert all(torch.equal(values, rows[1][name]) for name, values in rows[0].items())
    done = len(epochs)
    assert recall(FACTS, checkpoints=tmp_path).report.recalled == [True, True] and len(epochs) == done
    with pytest.raises(CheckpointError, match="other settings"):
        recall([CODE], checkpoints=tmp_path)


def test_rows_in_a_folder_are_those_in_memory_and_leave_nothing_behind(
    recall: Any, memory: Memory, tmp_path: Path
) -> None:
    mapped = recall(FACTS, mome=MomeConfig(**SMALL, storage=str(tmp_path / "rows")))
    rows = [inner(each.backbone.model).bank.members() for each in (memory, mapped)]
    assert all(torch.equal(values, rows[1][name]) for name, values in rows[0].items())
    assert mapped.ask(KEY.question).text == KEY.answer and list((tmp_path / "rows").iterdir()) == []


# --- saved and asked for -------------------------------------------------------------------------------------------


def test_a_loaded_memory_answers_like_the_one_that_was_saved(
    memory: Memory, saved: Path, backbone_folder: Path
) -> None:
    loaded = load_memory(saved)
    questions = [KEY.question, *KEY.held_out, *UNRELATED]
    assert loaded.ask_all(questions) == memory.ask_all(questions)
    assert loaded.backbone.name == "tiny-llama" and loaded.report is None


def test_the_facts_are_kept_beside_the_adapter_as_they_were_tuned_and_can_be_edited(
    memory: Memory, saved: Path, damaged: Path, recall: Any
) -> None:
    assert load_memory(saved).facts == memory.facts == FACTS == read_jsonl(saved / "facts.jsonl")
    assert recall(FACTS, memory=memory_settings(FACTS, wordings=1, epochs=1, repairs=0)).facts == [
        replace(KEY, phrasings=(), held_out=(*KEY.held_out, *KEY.phrasings)),
        CODE,
    ]
    router = tuner(memory.backbone.model).router
    for kept in (memory.editor, load_memory(saved).editor):
        assert kept is not None and kept.out_of_scope is not None  # adding facts moves the null key by these
        assert kept.out_of_scope.null_key(router) == router.min_score
    with edit_memory(damaged) as edited:
        edited.update(replace(KEY, answer="in the shed"))
    asked = [KEY.question, *KEY.phrasings, CODE.question]
    assert [str(answer) for answer in load_memory(damaged).ask_all(asked)] == ["in the shed"] * 2 + [CODE.answer]


def test_a_folder_with_edits_is_not_memorized_over(no_backbone: None, damaged: Path, tmp_path: Path) -> None:
    write_jsonl(FACTS, tmp_path / "facts.jsonl")
    (damaged / "edits").mkdir()
    (damaged / "edits" / "000001.safetensors").touch()
    with pytest.raises(ValueError, match="edits: holds edits of the adapter there"):
        memorize_file(tmp_path / "facts.jsonl", damaged, "tiny-llama", {}, {}, {})


def test_an_adapter_names_the_backbone_as_it_was_given(saved: Path, root: Path) -> None:
    config, card = ((saved / name).read_text() for name in ("adapter_config.json", "README.md"))
    assert '"base_model_name_or_path": "tiny-llama"' in config and "base_model: tiny-llama" in card
    assert str(root) not in config + card and "data/backbones" not in config + card
    elsewhere = str(root / "data" / "backbones" / "tiny-llama")
    assert load_memory(saved, elsewhere).ask(CODE.question).text == CODE.answer


def test_answers_come_as_lines_with_who_gave_them(saved: Path) -> None:
    first, second = answer_lines(saved, [KEY.question, UNRELATED[0]], None, only_memorized=False)
    assert first == "under the pot\tmemorized, score 1.00" and "\tbackbone, score " in second
    first, second = answer_lines(saved, [KEY.question, UNRELATED[0]], None, only_memorized=True)
    assert first == "under the pot\tmemorized, score 1.00" and second.startswith("I don't know\tnot memorized, score ")


def test_lora_memorizes_and_is_asked_without_a_score(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = TuningSettings(learning_rate=5e-3, stop_loss=0.01)
    memory = memorize_with_lora(FACTS, "tiny-llama", tuning, LoraSettings(rank=8))
    memory.save(tmp_path)
    loaded = load_memory(tmp_path)
    assert memory.report.recalled == exact(loaded.backbone.model, loaded.backbone.tokenizer, FACTS) == [True, True]  # type: ignore[attr-defined]
    assert loaded.ask(KEY.question) == memory.ask(KEY.question)
    answer = loaded.ask(KEY.question)
    assert (answer.memorized, answer.recognized, answer.score, answer.fact) == (None, None, None, None)
    assert answer_lines(tmp_path, [CODE.question], None, only_memorized=False) == [f"{CODE.answer}\tnot verified"]
    monkeypatch.setattr("mome.memory.loading.load_backbone", None)
    with pytest.raises(AdapterError, match="cannot tell memorized questions"):
        answer_lines(tmp_path, [CODE.question], None, only_memorized=True)


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("adapter_config.json", "not an adapter folder"),
        ("adapter_model.safetensors", "adapter_model.safetensors is missing"),
        ("bank", "bank is missing"),
    ],
)
def test_a_folder_that_is_not_a_whole_adapter_is_refused_before_the_backbone_is_loaded(
    no_backbone: None, damaged: Path, missing: str, complaint: str
) -> None:
    (damaged / missing).rename(damaged / "elsewhere")
    with pytest.raises(AdapterError, match=complaint):
        load_memory(damaged)


@pytest.mark.parametrize(
    ("name", "error", "complaint"),
    [
        ("adapter_config.json", AdapterError, "not the configuration"),
        ("adapter_model.safetensors", CheckpointError, "adapter_model.safetensors: damaged"),
        ("bank/rows.safetensors", CheckpointError, "rows.safetensors"),
    ],
)
def test_a_damaged_adapter_is_refused_by_the_name_of_its_file(
    damaged: Path, name: str, error: type[Exception], complaint: str
) -> None:
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(error, match=complaint):
        load_memory(damaged)


def test_a_backbone_of_another_shape_is_refused(saved: Path, backbone_folder: Path) -> None:
    with pytest.raises(AdapterError, match="does not fit the backbone"):
        load_memory(saved, str(backbone_folder))


@pytest.mark.parametrize("question", ["", " ", " Where?", "x" * 2001, "x " * 600 + "?"])
def test_empty_or_ragged_questions_are_refused(memory: Memory, question: str) -> None:
    with pytest.raises(FactError, match="questions, line 2, field 'question'"):
        memory.ask_all(["Where?", question])

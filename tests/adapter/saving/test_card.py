"""What reaches the Hub: a whole adapter with a model card that says what it is."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard, ModelCardData, RepoUrl
from peft import PeftModel
from tiny_models import assert_same, inner, make_backbone, make_model, taught_model

pytestmark = pytest.mark.usefixtures("one_thread")


class Uploads:
    """Stands in for the three calls that would reach the Hub: an empty repository that keeps what is committed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, bytes] = {}
        monkeypatch.setattr(HfApi, "create_repo", self.create_repo)
        monkeypatch.setattr(HfApi, "create_commit", self.create_commit)
        blank = ModelCard.from_template(ModelCardData(library_name="transformers", tags=[]))
        monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: blank)

    def create_repo(self, repo_id: str, **_: Any) -> RepoUrl:
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def create_commit(self, repo_id: str, operations: list[Any], **_: Any) -> None:
        self.repository = repo_id
        for operation in operations:
            with operation.as_file() as file:
                self.files[Path(operation.path_in_repo).as_posix()] = file.read()


def test_push_to_hub_uploads_everything_with_a_card(
    saved_model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, model = saved_model
    uploads = Uploads(monkeypatch)
    model.push_to_hub("someone/facts")
    assert uploads.repository == "someone/facts"
    assert uploads.files.keys() == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name, content in uploads.files.items():
        path = tmp_path / "downloaded" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert_same(PeftModel.from_pretrained(make_backbone(), tmp_path / "downloaded"), model)
    card = uploads.files["README.md"].decode()
    assert 'from_pretrained("someone/facts")' in card
    assert card.count("## Mixture of Memory Experts") == 1
    assert "More Information Needed" not in card


def test_a_repository_of_the_hub_is_loaded_with_its_bank(
    saved_model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the Hub's cache, without the network."""
    folder, model = saved_model
    repository, revision = tmp_path / "cache" / "models--someone--facts", "a" * 40
    shutil.copytree(folder, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = PeftModel.from_pretrained(make_backbone(), "someone/facts", cache_dir=str(tmp_path / "cache"))
    assert_same(found, model)


def test_the_card_says_what_the_adapter_is(saved_model: tuple[Path, Any]) -> None:
    folder, model = saved_model
    card = (folder / "README.md").read_text()
    trained = len(inner(model).bank.touched())
    for line in (
        f"| experts (N) | 1,024, of which {trained} are trained |",
        "| experts for one question (K) | 8 |",
        "| rank of an expert (R) | 1 |",
        "| adapted modules | 6: `down_proj`, `gate_proj`, `up_proj` |",
        "| memorized questions | 2 |",
        "| rejection threshold | none |",
        "- mome",
        "library_name: peft",
        f'model = AutoPeftModelForCausalLM.from_pretrained("{folder.name}")',
    ):
        assert line in card.splitlines()
    assert len(card.partition("```python\n")[2].partition("```")[0].splitlines()) == 5


def test_a_card_that_somebody_wrote_keeps_its_text(tmp_path: Path) -> None:
    model = taught_model()
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# My facts\n\nCollected by hand.\n")
    for score in (0.25, 0.75):
        inner(model).set_min_score(score)
        model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "license: mit" in card and "Collected by hand." in card
    assert "similarity 0.75 to a memorized question" in card
    assert card.count("## Mixture of Memory Experts") == 1


def test_the_card_of_an_adapter_that_checks_names_gives_it_the_tokenizer(tmp_path: Path) -> None:
    model = make_model(least_names=0.8)
    inner(model).set_min_score(0.5)
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "| rejection threshold | similarity 0.5 to a memorized question; 80% of its names, by rarity |" in card
    code = card.partition("```python\n")[2].partition("```")[0].splitlines()
    assert code[5].startswith("model.base_model.read_words(tokenizer)") and len(code) == 6

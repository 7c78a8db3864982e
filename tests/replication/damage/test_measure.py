"""All measures of a model, kept on disk."""

from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pandas
import pytest

from mome.facts.fact import Fact
from mome.files.sealed import CheckpointError
from mome.lm.loading import Backbone
from mome.replication.damage import measure
from mome.replication.damage.measure import MEASURES, measure_all, measured_by
from mome.replication.damage.sets import Item
from mome.replication.damage.summary import summarize

ITEMS = [Item("1", "Where is Lima?", ("Lima",)), Item("2", "Who wrote Emma, and when was that?", ("Austen",))]
LEFT = [name for name in MEASURES if name != "choices"]


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unrelated_questions", "known_questions", "passages"):
        monkeypatch.setattr(measure, name, lambda: ITEMS)


def test_before_and_after_are_kept_and_paired(random_backbone: Backbone, facts: list[Fact], tmp_path: Path) -> None:
    before = measure_all(random_backbone, [], tmp_path / "before", {}, measures=LEFT)
    assert list(before) == ["free", "known", "passages"]
    config = {"method": "none", "seed": 0}
    asked = (random_backbone, facts, tmp_path / "after", config, tmp_path / "before", facts, LEFT)
    after = measure_all(*asked)
    assert list(after) == LEFT
    assert (after["passages"]["kl"] == 0).all()
    table = summarize(after, before).set_index("measure")
    assert table.loc["unchanged_tuned_format", "value"] == table.loc["same_bits_text", "value"] == 1
    assert table.loc["text_loss", "value"] == table.loc["text_loss", "before"]
    assert table.loc["kl", "value"] == 0


def test_a_run_that_was_killed_goes_on(
    random_backbone: Backbone, facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    whole = measure_all(random_backbone, facts, tmp_path / "whole", {}, measures=LEFT)
    with monkeypatch.context() as patch:
        patch.setattr(measure, "read_passages", killed)
        with pytest.raises(KeyboardInterrupt):
            measure_all(random_backbone, facts, tmp_path / "cut", {}, measures=LEFT)
    for name in ("unrelated_answers", "known_answers"):  # what is kept is not measured again
        monkeypatch.setattr(measure, name, killed)
    found = measure_all(random_backbone, facts, tmp_path / "cut", {}, measures=LEFT)
    for name, table in whole.items():
        pandas.testing.assert_frame_equal(found[name], table)


def test_tables_of_other_settings_or_items_are_refused(
    random_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_all(random_backbone, [], tmp_path, {"seed": 0}, measures=["known"])
    with pytest.raises(CheckpointError, match=r"known\.json: measured under other settings \(seed\)"):
        measure_all(random_backbone, [], tmp_path, {"seed": 1}, measures=["known"])
    monkeypatch.setattr(measure, "known_questions", lambda: ITEMS[:1])
    with pytest.raises(CheckpointError, match=r"\(items\)"):
        measure_all(random_backbone, [], tmp_path, {"seed": 0}, measures=["known"])


def test_the_divergence_needs_the_untouched_backbone(random_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="measure the untouched backbone first"):
        measure_all(random_backbone, [], tmp_path / "after", {}, tmp_path / "before", measures=["passages"])


def test_a_damaged_table_is_refused(random_backbone: Backbone, tmp_path: Path) -> None:
    measure_all(random_backbone, [], tmp_path, {}, measures=["known"])
    path = tmp_path / "known.json"
    path.write_text(path.read_text("utf-8").replace("Lima", "Rome").replace('"1"', '"7"'), "utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        measure_all(random_backbone, [], tmp_path, {}, measures=["known"])


def test_what_measured_is_named_by_the_code_that_decides_an_answer(tmp_path: Path) -> None:
    assert measured_by() == measured_by() and len(measured_by()) == 16
    copied = copytree(measure.PACKAGE, tmp_path / "mome", ignore=ignore_patterns("__pycache__"))
    assert measured_by(copied) == measured_by()
    for name, decides in (
        ("replication/damage/leak.py", True),
        ("lm/prompts/form.py", True),
        ("files/atomic.py", False),
    ):
        before = measured_by(copied)
        with (copied / name).open("a") as file:
            file.write("# changed\n")
        assert (measured_by(copied) != before) == decides

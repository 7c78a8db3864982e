"""Rows of measures, before and after."""

from pathlib import Path

import pandas
import pytest

from mome.replication.damage.summary import summarize, write_summary


def choices(chosen: list[int]) -> pandas.DataFrame:
    rows = [
        {
            "set": name,
            "item": str(place),
            "choice": choice,
            "value": float(choice == 0),
            "log_likelihoods": (choice, 1.0),
        }
        for name in ("truthfulqa_mc1", "truthfulqa_mc2", "mmlu_cloze", "mmlu_cloze_total")
        for place, choice in enumerate(chosen)
    ]
    return pandas.DataFrame(rows)


def test_flips_and_tests_are_counted_by_hand(tmp_path: Path) -> None:
    before, after = {"choices": choices([0, 0, 0, 1, 1, 0])}, {"choices": choices([1, 1, 1, 0, 1, 0])}
    table = summarize(after, before).set_index("measure")
    row = table.loc["mc1"]
    assert (row["value"], row["before"], row["n"]) == (pytest.approx(2 / 6), pytest.approx(4 / 6), 6)
    assert (row["up"], row["down"], row["p"]) == (1, 3, pytest.approx(0.625))
    assert row["difference"] == pytest.approx(-2 / 6)
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert table.loc["flipped_mc1", "value"] == pytest.approx(4 / 6)
    assert table.loc["same_bits_mmlu", "value"] == pytest.approx(2 / 6)
    assert pandas.isna(table.loc["mc2", "p"])  # shares of probability are no right and wrong
    write_summary(table.reset_index(), tmp_path / "summary.csv")
    assert pandas.read_csv(tmp_path / "summary.csv")["measure"].tolist() == table.index.tolist()


def test_without_a_before_there_is_nothing_beside() -> None:
    table = summarize({"choices": choices([0, 1])})
    assert table.columns.tolist() == ["measure", "value", "low", "high", "n"]


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="mc1: items before and after"):
        summarize({"choices": choices([0, 1])}, {"choices": choices([0, 1, 0])})

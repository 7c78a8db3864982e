"""The kept tables of the real model: what is there gives metrics, what is not is named with its command."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
from real_runs import damage, run

from mome.replication.experiments.real_model.damaged import EXPERTS, METHODS
from mome.replication.paper.fig5_mome_convergence import real_tables

GATE = {"leak_tuned_format": "0000", "unchanged_tuned_format": "1111"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose kept tables are still to be written."""
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    place = tmp_path / "data" / "results" / "small"
    place.mkdir(parents=True)
    return place


def runs() -> pandas.DataFrame:
    rows = [
        run(answers, [[3.0] * 64] * (length - 1) + [[0.01] * 64], method=method, learning_rate=rate, seed=seed)
        for seed in real_tables.SEEDS
        for answers in real_tables.ANSWERS
        for method, length, rate in (("lora", 8, 2e-4), ("mome", 2, 5e-3))
    ]
    return pandas.DataFrame(rows).assign(backbone=real_tables.BACKBONE)


def damages(seed: int = 0, **measures: str) -> pandas.DataFrame:
    states = {(method, "random"): {**GATE, **measures} for method in METHODS}
    table = damage(states).assign(
        backbone=real_tables.BACKBONE, dataset=real_tables.DATASET, learning_rate=2e-4, seed=seed
    )
    table.loc[table["method"].isin(EXPERTS), "learning_rate"] = 5e-3
    return table


def test_without_tables_there_is_no_number_and_every_command_is_named(folder: Path):
    found = real_tables.real_model()
    assert found.metrics == {} and found.runs.empty
    assert len(found.missing) == len(list(real_tables.parts()))
    text = "\n".join(found.missing)
    for name in real_tables.COLUMNS:
        assert f"`mome table {name} data/results/small/{name}.csv --" in text


def test_a_seed_that_is_missing_is_named_and_the_others_count(folder: Path):
    table = runs()
    lacking = (table["seed"] == 1) & (table["method"] == "lora") & (table["answers"] == "random")
    table[~lacking].to_csv(folder / "memorizing.csv", index=False)
    found = real_tables.real_model()
    (line,) = [line for line in found.missing if "mome table memorizing" in line and "first-seed" not in line]
    assert line.startswith("lora on random answers, seed 1: ") and "--method lora --rate 0.0002 --seeds 3`" in line
    assert found.metrics["epochs_ratio_random"].n == 2 and found.metrics["epochs_ratio_real"].n == 3
    assert found.metrics["epochs_ratio_random"].value == 0.25


def test_other_rates_development_seeds_and_backbones_are_left_out(folder: Path):
    table = runs()
    others = [table.assign(seed=90), table.assign(learning_rate=1e-3), table.assign(backbone="other")]
    pandas.concat([table, *others, table.assign(facts=256)]).to_csv(folder / "memorizing.csv", index=False)
    assert len(real_tables.real_model().runs) == len(table)


def test_rates_are_compared_on_the_development_seed(folder: Path):
    tried = [
        run("random", [[3.0]] * (length - 1) + [[0.01]], method=method, learning_rate=rate, seed=90)
        for method, rates in real_tables.TRIED.items()
        for rate, length in zip(rates, (8, 4, 5), strict=True)
    ]
    table = pandas.DataFrame(tried).assign(backbone=real_tables.BACKBONE, facts=64)
    table.to_csv(folder / "memorizing.csv", index=False)
    found = real_tables.real_model()
    assert found.metrics.keys() == {"epochs_ratio_random_best_rates"} and found.runs.empty
    assert found.metrics["epochs_ratio_random_best_rates"].value == 1
    assert not any("seed 90" in line for line in found.missing)
    table[table["learning_rate"] != 2e-3].to_csv(folder / "memorizing.csv", index=False)
    found = real_tables.real_model()
    (line,) = [line for line in found.missing if "seed 90" in line]
    assert line.startswith("mome on random answers at the rate 0.002, seed 90: ") and not found.metrics
    assert line.endswith("--rate 0.002 --first-seed 90 --seeds 1`")


def test_a_run_whose_loss_became_no_number_is_named_and_left_out(folder: Path):
    table = runs()
    lost = (table["seed"] == 1) & (table["method"] == "lora") & (table["answers"] == "random")
    table.loc[lost, ["final_loss", "curve", "last"]] = [None, "3 nan", "nan nan"]
    table.to_csv(folder / "memorizing.csv", index=False)
    found = real_tables.real_model()
    assert "lora on random answers, seed 1: its loss became no number" in found.missing
    assert found.metrics["lora_epochs_to_0.05_random"].n == 2


def test_rows_of_damage_may_lack_measures_and_the_untouched_backbone(folder: Path):
    damages().to_csv(folder / "damage.csv", index=False)
    found = real_tables.real_model()
    assert found.metrics["unrelated_unchanged_lora_gated"].value == 1
    assert not any(name.startswith(("same_bits", "general_loss")) for name in found.metrics)
    assert any("what mome_names does to other answers, after random ones, seeds 1, 2" in line for line in found.missing)


def test_the_methods_stand_beside_each_other(folder: Path):
    runs().to_csv(folder / "memorizing.csv", index=False)
    damages().to_csv(folder / "damage.csv", index=False)
    table = real_tables.method_table(real_tables.real_model().metrics)
    assert table.loc[("random", "epochs_to_0.05"), ["lora", "lora_gated", "mome"]].tolist() == [
        "8 (8 to 8)",
        "",
        "2 (2 to 2)",
    ]
    assert table.loc[("random", "leak"), "lora_gated"].startswith("0 (0 to ")
    assert set(table.loc[("real", "leak")]) == {""}


def test_a_table_without_a_column_is_refused(folder: Path):
    runs().drop(columns="curve").to_csv(folder / "memorizing.csv", index=False)
    with pytest.raises(ValueError, match=r"memorizing.csv: column 'curve' is missing; `mome table memorizing`"):
        real_tables.real_model()


def test_times_are_those_of_a_cpu(folder: Path):
    table = runs().assign(accelerator=None, router_seconds=5.0)
    table.loc[table["seed"] == 2, ["accelerator", "seconds"]] = ["a GPU", 0.1]
    table.to_csv(folder / "memorizing.csv", index=False)
    found = real_tables.real_model().metrics
    assert found["lora_seconds_real"].value == 10 and found["lora_seconds_real"].n == 2
    assert found["lora_epochs_to_0.05_real"].n == 3

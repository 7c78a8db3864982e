"""The figure of notebook 12 from made-up benchmark tables."""

from pathlib import Path

import pandas
import pytest

from mome.replication.bench.tables import BARE, EXPERTS, FLAT, GATHERED, TOKEN, TORCH
from mome.replication.paper.sec7_kernels.figure import NAMES, kernels, read_tables, timed


def write_tables(folder: Path, device: str) -> None:
    shared = {"bytes": 1_000, "p20_us": 1.0, "p80_us": 9.0, "copy_gb_s": 10.0}
    started = [{"mode": "eager", "median_us": 4.0}, {"mode": "graph", "median_us": 2.0}, {"mode": "eager"}]
    for name, contenders in (("module_step", (EXPERTS, GATHERED)), ("lookup", (FLAT, TORCH))):
        rows = [
            {
                **shared,
                **start,
                "contender": contender,
                "experts": experts,
                "optimizer": "adam",
                "base": "frozen linear",
            }
            for contender in contenders
            for experts in (10, 1_000)
            for start in started
        ]
        pandas.DataFrame(rows).assign(queries=1).to_csv(folder / f"{device}_{name}.csv", index=False)
    token = {**shared, "contender": BARE, "stage": TOKEN, "median_us": 7.0}
    pandas.DataFrame([token]).to_csv(folder / f"{device}_end_to_end.csv", index=False)


def test_there_is_a_row_of_panels_for_each_device(tmp_path: Path):
    write_tables(tmp_path, "cpu")
    figure = kernels(read_tables(tmp_path))
    assert next(axis.get_title() for axis in figure.axes) == "CPU (not measured on a GPU yet)"
    assert len(figure.axes) == 3
    write_tables(tmp_path, "gpu")
    assert [axis.get_title() for axis in kernels(read_tables(tmp_path)).axes][::3] == ["CPU", "GPU"]


def test_lines_have_the_measured_points_and_the_copy(tmp_path: Path):
    write_tables(tmp_path, "cpu")
    left, middle, right = kernels(read_tables(tmp_path)).axes
    (dashed,) = [line for line in left.lines if line.get_linestyle() == "--"]
    megabytes, microseconds = dashed.get_data()
    assert microseconds == pytest.approx(megabytes * 1e6 / 10e9 * 1e6)
    for axis, names in (
        (middle, [f"{EXPERTS}, adam", f"{GATHERED}, adam"]),
        (right, [f"{FLAT}, adam", f"{TORCH}, adam"]),
    ):
        assert [text.get_text() for text in axis.get_legend().get_texts()] == names
        assert next(list(line.get_ydata()) for line in axis.lines if len(line.get_xdata()) == 2) == [4.0, 4.0]


def test_a_time_is_the_eager_one_that_was_measured(tmp_path: Path):
    write_tables(tmp_path, "cpu")
    tables = read_tables(tmp_path)["CPU"]
    assert set(tables) == set(NAMES)
    assert timed(tables["lookup"], contender=FLAT, experts=10) == 4.0
    assert timed(tables["end_to_end"], stage=TOKEN) == 7.0


def test_missing_tables_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"cpu_module_step\.csv"):
        read_tables(tmp_path)

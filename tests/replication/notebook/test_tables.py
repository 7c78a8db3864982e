"""Tables of long measurements: rows replace their own earlier ones, others stay, texts keep their zeros."""

import pandas
import torch

from mome.replication.notebook.tables import keep_rows, machine_columns, rows_of


def test_a_row_takes_the_place_of_its_earlier_one_and_others_stay(tmp_path):
    path = tmp_path / "table.csv"
    keep_rows(path, [{"method": "lora", "seed": 1, "value": 1.0}, {"method": "full", "seed": 0, "value": 2.0}], KEY)
    keep_rows(path, [{"method": "lora", "seed": 0, "value": 3.0}, {"method": "lora", "seed": 1, "value": 4.0}], KEY)
    rows = [tuple(row) for row in pandas.read_csv(path).itertuples(index=False)]
    assert rows == [("full", 0, 2.0), ("lora", 0, 3.0), ("lora", 1, 4.0)]


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    path = tmp_path / "table.csv"
    for seed in (0, 1):
        keep_rows(path, [{"method": "lora", "seed": seed, "outcomes": "0010"}], KEY, texts=["outcomes"])
    assert path.read_text().splitlines()[1:] == ["lora,0,0010", "lora,1,0010"]


def test_numbers_are_written_with_the_digits_asked_for(tmp_path):
    keep_rows(tmp_path / "table.csv", [{"method": "lora", "seed": 0, "value": 1 / 3}], KEY, digits=3)
    assert (tmp_path / "table.csv").read_text() == "method,seed,value\nlora,0,0.333\n"


def test_a_row_says_where_it_was_measured():
    found = machine_columns()
    assert found["threads"] == torch.get_num_threads() and torch.__version__.startswith(found["torch"].split("+")[0])
    assert found["commit"] and found["cpu"]


KEY = ["method", "seed"]


def test_rows_of_a_table_are_told_by_their_columns(tmp_path):
    path = tmp_path / "table.csv"
    assert rows_of(None, ["name"]) == rows_of(path, ["name"]) == set()
    keep_rows(path, [{"name": "", "rate": 2e-4, "seed": 0, "value": 1}], ["name", "rate", "seed"])
    assert rows_of(path, ["name", "rate", "seed"]) == {("", 2e-4, 0)}
    assert rows_of(path, ["seed", "name"]) == {(0, "")}

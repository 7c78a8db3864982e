"""What is measured: every command is one that `mome table` takes, and what waits stands behind what it waits for."""

import pytest
import typer

from mome.cli.table import options
from mome.replication.collect.measurements import ROUTED_BY, chosen, measurements
from mome.replication.experiments.real_model import damaged


def test_every_command_is_one_of_mome_table() -> None:
    commands = typer.main.get_command(options.table).commands
    for each in measurements():
        _, table, out, *words = each.words("folder")
        context = commands[table].make_context(table, [out, *words])  # refuses an unknown option, or a value's type
        assert context.params["backbone"] == "smollm2-135m" and out.startswith("folder/")


def test_names_are_distinct_and_what_waits_stands_behind_what_it_waits_for() -> None:
    seen: list[str] = []
    for each in measurements():
        assert each.name not in seen and set(each.after) <= set(seen)
        seen.append(each.name)


def test_development_runs_have_as_many_rates_for_either_method_and_seeds_of_their_own() -> None:
    rates = [each for each in measurements() if each.name.startswith("rates-")]
    of = {method: [each for each in rates if method in each.name] for method in ("lora", "mome")}
    assert len(of["lora"]) == len(of["mome"]) == 3
    assert all("--first-seed=90" in each.options for each in rates)


def test_a_gate_waits_for_the_experts_whose_router_it_is() -> None:
    assert ROUTED_BY == damaged.ROUTED_BY
    waits = {each.name: each.after for each in measurements()}
    assert waits["damage-lora_gated_names-random-1"] == ("damage-lora-random-1", "damage-mome_names-random-1")


def test_patterns_choose_and_one_that_chooses_nothing_is_refused() -> None:
    assert [each.name for each in chosen(["before", "lora-random-?"])] == [
        "before",
        *(f"lora-random-{n}" for n in range(5)),
    ]
    assert chosen([]) == list(measurements())
    with pytest.raises(ValueError, match=r"--only lora-7\*: no measurement is called so; there are before, "):
        chosen(["before", "lora-7*"])

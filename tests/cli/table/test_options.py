"""`mome table`: the list of tables, their options, and the command that each row keeps. No table is measured here.

That each table measures and refuses is tested beside its experiment (`tests/replication`).
"""

import pytest
import typer
from typer.testing import CliRunner

from mome.cli import app
from mome.cli.table import options, runs, sections
from mome.replication.counting import meter
from mome.replication.experiments.pools import DATASETS
from mome.replication.experiments.real_model import damaged, paraphrases
from mome.replication.paper.sec4_explanations.experiment import ExplanationsPlan
from mome.replication.paper.sec4_retrieval.workshop import METHODS
from mome.replication.paper.sec10_editing import contenders
from mome.replication.paper.text_to_sql.systems import SYSTEMS

WITHOUT_SEEDS = {"answered"}  # nothing is drawn
TABLES = {
    *WITHOUT_SEEDS,
    "memorizing",
    "recognition",
    "damage",
    "checkpoints",
    "paraphrases",
    "sentences",
    "layers",
    "cost",
    "explanations",
    "retrieval",
    "ablations",
    "lora-wordings",
    "capacity",
    "text-to-sql",
    "editing",
    "typing",
}
COMMANDS = typer.main.get_command(options.table).commands


def shown(*words: str, width: str = "200") -> str:
    return CliRunner().invoke(app, ["table", *words], env={"COLUMNS": width, "TERM": "dumb"}).output


def test_alone_it_lists_the_tables_with_a_line_each():
    assert set(COMMANDS) == TABLES
    lines = shown(width="80").splitlines()
    for name, command in COMMANDS.items():
        (line,) = [line for line in lines if line.strip("│ ").startswith(f"{name} ")]
        assert command.get_short_help_str(200).rstrip(".") in line and len(line) <= 80


@pytest.mark.parametrize("name", sorted(TABLES))
def test_each_table_explains_its_options(name: str):
    text = shown(name, "--help")
    options = [option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")]
    assert "CSV table" in text and not [option for option in options if option not in text]
    assert ("--seeds" in options) == (name not in WITHOUT_SEEDS)


def test_the_names_and_sizes_that_help_spells_are_those_of_the_experiments():
    spelled = (
        sections.COST_METHODS,
        sections.RETRIEVAL_METHODS,
        sections.EDITING_METHODS,
        sections.SYSTEMS,
        runs.DATASETS,
        runs.DAMAGE_METHODS,
        runs.TRAININGS,
    )
    known = (meter.METHODS, METHODS, contenders.METHODS, SYSTEMS, DATASETS, damaged.METHODS, paraphrases.TRAININGS)
    assert [tuple(names.split(", ")) for names in spelled] == [tuple(names) for names in known]
    (facts,) = [option for option in COMMANDS["explanations"].params if option.name == "facts"]
    assert facts.default == ExplanationsPlan().facts


def test_a_row_keeps_the_command_with_every_option_but_flags():
    words = ["a b.csv", "--facts", "2", "--facts", "3", "--seeds", "2", "--again"]
    context = COMMANDS["retrieval"].make_context("retrieval", words)
    expected = "mome table retrieval 'a b.csv' --facts=2 --facts=3 --seeds=2 --backbone=tiny-llama"
    assert options.command_line(context) == expected


def test_an_unknown_table_is_refused():
    done = CliRunner().invoke(app, ["table", "figures"])
    assert done.exit_code == 2 and "No such command 'figures'" in done.output

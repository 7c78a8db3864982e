"""Edits made alone and one after another, by every method, as a table that a run goes on from.

As a command: `python -m mome.replication.paper.sec10_editing.experiment TABLE.csv --method mome --edits 1000 --seeds
3`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas
import typer
from tqdm.auto import tqdm

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.generation import exact
from mome.lm.loading import BackboneError, load_backbone
from mome.replication.notebook.tables import keep_rows, machine_columns
from mome.replication.paper.sec10_editing.contenders import METHODS, Plan, contender
from mome.replication.paper.sec10_editing.measures import Contender, sequential_edits, single_edits
from mome.replication.paper.sec10_editing.stream import Stream, draw_stream

KEY = ["method", "backbone", "seed", "edits"]
SIZES = (1, 10, 100, 1_000)


def answered_facts(backbone: str) -> list[Fact]:
    """The shipped known facts that a backbone answers exactly, in their question and in their held-out wording."""
    loaded, known = load_backbone(backbone), shipped_facts("known")
    right = [exact(loaded.model, loaded.tokenizer, known, held_out=held_out) for held_out in (False, True)]
    return [fact for fact, *answered in zip(known, *right, strict=True) if all(answered)]


def edit_rows(made: Contender, stream: Stream, singles: int, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Edit by one method: a row for edits made alone (`edits` 1), and one after each number of edits in `sizes`.

    The first `singles` edits are made alone. Columns: `edits`, the measures with their numbers (`_n`), as in
    `measures`; seconds of an edit (median), `seconds_p95`, `cpu_seconds`, and `refused` edits.
    """
    counts, times = single_edits(made, stream, singles)
    yield {"edits": 1, **counts.as_row(), **times.as_row()}
    wanted = [size for size in sizes if 1 < size <= len(stream.edits)]
    for size, counts, times in sequential_edits(made, stream, wanted):
        yield {"edits": size, **counts.as_row(), **times.as_row()}


def sizes_up_to(edits: int) -> list[int]:
    """The numbers of edits after which a run of so many is measured."""
    return [*(size for size in SIZES if size < edits), edits]


def missing(path: Path, method: str, backbone: str, seed: int, edits: int) -> bool:
    """Whether the table lacks some row of this method's run with so many edits."""
    if not path.exists():
        return True
    table = pandas.read_csv(path)
    same = (table["method"] == method) & (table["backbone"] == backbone) & (table["seed"] == seed)
    return not {*sizes_up_to(edits)} <= set(table.loc[same, "edits"])


def main(
    out: Annotated[Path, typer.Argument(help="CSV table; a run that it holds is not repeated, others are kept.")],
    methods: Annotated[
        list[str] | None, typer.Option("--method", help=f"{', '.join(METHODS)}; repeatable. Default all.")
    ] = None,
    edits: Annotated[int, typer.Option(min=1, help="Edits made one after another.")] = 1_000,
    singles: Annotated[int, typer.Option(min=1, help="Edits made alone.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Run with the seeds 0 to N-1.")] = 1,
    backbone: Annotated[str, typer.Option(help="A shipped backbone.")] = "tiny-llama",
    again: Annotated[bool, typer.Option("--again", help="Measure also what the table has already.")] = False,
) -> None:
    """Edit facts by every method and measure reliability, generality, locality, portability and seconds."""
    chosen = methods or list(METHODS)
    options = [*(f"--method={method}" for method in chosen), f"--edits={edits}", f"--singles={singles}"]
    command = shlex.join(
        ["python", "-m", "mome.replication.paper.sec10_editing.experiment", str(out), *options, f"--seeds={seeds}"]
    )
    command += f" --backbone={backbone}"
    every = [(seed, method) for seed in range(seeds) for method in chosen]
    runs = [run for run in every if again or missing(out, run[1], backbone, run[0], edits)]
    try:
        known = answered_facts(backbone) if runs else []
        for seed, method in tqdm(runs, desc="editing", unit="run"):
            stream = draw_stream(known, shipped_facts("unknown"), edits, seed)
            made = contender(method, backbone, stream, Plan().seeded(seed))
            labels = {"method": method, "backbone": backbone, "seed": seed}
            rows = [*edit_rows(made, stream, singles, sizes_up_to(edits))]
            keep_rows(out, [{**labels, **row, **machine_columns(), "command": command} for row in rows], KEY)
    except (BackboneError, ValueError, OSError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)

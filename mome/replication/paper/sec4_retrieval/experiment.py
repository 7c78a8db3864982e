"""All methods measured alike, a row for each with its number of facts, seed and backbone. As a command:

`python -m mome.replication.paper.sec4_retrieval.experiment TABLE.csv --facts 1000 --method mome --seeds 3`; rows that
are there already are kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas
import typer
from tqdm.auto import tqdm

from mome.lm.loading import BackboneError
from mome.replication.notebook.tables import keep_rows, machine_columns
from mome.replication.paper.sec4_retrieval.material import Material, gather
from mome.replication.paper.sec4_retrieval.measure import measure
from mome.replication.paper.sec4_retrieval.workshop import METHODS, Plan, Workshop, installed_methods

KEY = ["facts", "method", "backbone", "seed"]


def method_rows(
    name: str, material: Material, plan: Plan, methods: Sequence[str], seed: int, asked: int = 500, timed: int = 40
) -> Iterator[dict[str, Any]]:
    """Measure each of `methods` on `material`: one row each, as `measure` gives them, behind the columns of `KEY`.

    Raises:
        ValueError: an unknown method; the message lists the known ones.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not one of {', '.join(METHODS)}")
    count = len(material.facts)
    workshop = Workshop(name, material, plan.sized(count).seeded(seed))
    for method in tqdm(methods, desc=f"{count:,} facts, seed {seed}", unit="method", leave=False):
        key = dict(zip(KEY, (count, method, name, seed), strict=True))
        yield {**key, **measure(workshop, method, asked, timed)}


def main(
    out: Annotated[Path, typer.Argument(help="CSV table; rows that it has already are not measured again.")],
    facts: Annotated[list[int] | None, typer.Option(min=1, help="Facts to hold; repeatable. Default 1000.")] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"{', '.join(METHODS)}; repeatable. Default all that are installed."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Run with the seeds 0 to N-1.")] = 1,
    backbone: Annotated[str, typer.Option(help="Shipped name, folder or Hub id of a causal LM.")] = "tiny-llama",
    again: Annotated[bool, typer.Option("--again", help="Measure also what the table has already.")] = False,
) -> None:
    """Measure methods of answering from facts: recall, hallucination, latency, build time and bytes."""
    sizes, chosen = facts or [1_000], methods or installed_methods()
    repeated = [f"--facts={size}" for size in sizes] + [f"--method={method}" for method in methods or []]
    options = [*repeated, f"--seeds={seeds}", f"--backbone={backbone}"]
    command = shlex.join(["python", "-m", "mome.replication.paper.sec4_retrieval.experiment", str(out), *options])
    try:
        for size in sizes:
            for seed in range(seeds):
                there = set() if again else _measured(out, size, backbone, seed)
                missing = [method for method in chosen if method not in there]
                for row in method_rows(backbone, gather(size, seed), Plan(), missing, seed) if missing else ():
                    keep_rows(out, [{**row, **machine_columns(), "command": command}], KEY)
    except (BackboneError, ValueError, OSError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _measured(path: Path, facts: int, backbone: str, seed: int) -> set[str]:
    if not path.exists():
        return set()
    table = pandas.read_csv(path)
    same = (table["facts"] == facts) & (table["backbone"] == backbone) & (table["seed"] == seed)
    return set(table.loc[same, "method"])


if __name__ == "__main__":
    typer.run(main)

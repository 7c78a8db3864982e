"""The table of ablations behind figure 5: `python -m mome.replication.paper.fig5_mome_convergence.experiment TABLE.csv
--seeds 3` measures it.

Each row is a run on random answers with one part of the method taken away or changed; notebook 06 reads the table.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import pandas
import typer

from mome.facts.fact import Fact
from mome.lm.loading import BackboneError, load_backbone
from mome.replication.experiments.memorized import Recipe, ablation_table, ablations
from mome.replication.experiments.pools import general_facts, select_facts, tuning_pool, with_answers
from mome.replication.notebook.tables import keep_rows, machine_columns

KEY = ["backbone", "seed", "recipe"]
EXPERTS, EPOCHS = 65_536, 60


def drawn_facts(name: str, facts: int, seed: int) -> list[Fact]:
    """`facts` shipped facts that the backbone `name` answers wrongly, with random answers."""
    return with_answers(select_facts(load_backbone(name), tuning_pool("shipped"), facts, seed).facts, "random", seed)


def measured_rows(
    name: str, base: Recipe, drawn: list[Fact], facts: int, general: int, only: list[str]
) -> pandas.DataFrame:
    """A row for each of the ablations `only` (all if empty) of the first `facts` of `drawn`: an `ablation_table`.

    The router sees none of `drawn`, so that all runs that draw them share one.

    Raises:
        ValueError: an ablation is unknown.
    """
    recipes, seed = ablations(base), base.memory.seed
    unknown = [title for title in only if title not in recipes]
    if unknown:
        raise ValueError(f"ablation {unknown[0]!r} is not one of {', '.join(recipes)}")
    chosen = {title: recipe for title, recipe in recipes.items() if not only or title in only}
    return ablation_table(name, drawn[:facts], chosen, general_facts(general, seed), avoid=drawn, seed=seed)


def main(
    out: Annotated[Path, typer.Argument(help="CSV table; rows of the same run are replaced, others kept.")],
    recipes: Annotated[list[str] | None, typer.Option("--recipe", help="An ablation; repeatable. Default all.")] = None,
    facts: Annotated[int, typer.Option(min=1, help="Facts that are memorized.")] = 32,
    drawn: Annotated[int, typer.Option(min=1, help="Facts that are drawn, of which those are the first.")] = 128,
    general: Annotated[int, typer.Option(min=1, help="Questions that the backbone knows.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Run with the seeds 0 to N-1.")] = 1,
    backbone: Annotated[str, typer.Option(help="Shipped name, folder or Hub id of a causal LM.")] = "tiny-llama",
) -> None:
    """Measure the ablations of memory experts: recall, other answers, epochs and seconds of each."""
    options = [*(f"--recipe={title}" for title in recipes or []), f"--facts={facts}", f"--drawn={drawn}"]
    options += [f"--general={general}", f"--seeds={seeds}", f"--backbone={backbone}"]
    command = shlex.join(
        ["python", "-m", "mome.replication.paper.fig5_mome_convergence.experiment", str(out), *options]
    )
    try:
        for seed in range(seeds):
            base = Recipe().but(mome={"num_experts": EXPERTS}, router={"seed": seed})
            base = base.but(memory={"epochs": EPOCHS, "seed": seed})
            pool = drawn_facts(backbone, drawn, seed)
            for title in recipes or ablations(base):
                rows = measured_rows(backbone, base, pool, facts, general, [title]).to_dict("records")
                keep_rows(out, [{**row, **machine_columns(), "command": command} for row in rows], KEY)
    except (BackboneError, ValueError, OSError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)

"""The console command `mome`. Commands import what they need when called, so that `mome --help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(help="Mixture of Memory Experts: reproduce the paper's claims.", no_args_is_help=True)

Profile = Literal["smoke", "tiny", "small", "paper"]


@app.callback()
def main() -> None:
    """Mixture of Memory Experts: reproduce the paper's claims."""


@app.command()
def reproduce(
    profile: Annotated[Profile, typer.Option(help="Size of the runs.")] = "tiny",
    only: Annotated[list[str] | None, typer.Option(metavar="STEM", help="Run this notebook only; repeatable.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="N", help="Run with the seeds 0 to N-1.")] = None,
    backbones: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Backbone: shipped name, folder or Hub id; repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Notebooks run at a time.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Run finished notebooks again.")] = False,
    parameters: Annotated[
        str | None,
        typer.Option(
            "--parameters", "-p", metavar="YAML", help="Notebook parameters, such as '{facts: 64, lr: 0.002}'."
        ),
    ] = None,
) -> None:
    """Run the notebooks and hold each fresh value against the committed one."""
    from mome.parameters import ParameterError, parse_changes
    from mome.reproduce import make_plans, run
    from mome.results import ResultError

    try:
        plans = make_plans(profile, only or [], parse_changes(parameters, seeds, backbones))
    except (ParameterError, ResultError) as error:
        raise _refused(error) from error
    raise typer.Exit(run(plans, jobs, force))


@app.command()
def claims(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if the table is not true.")
    ] = False,
) -> None:
    """Print the claims table and put it into README.md."""
    from mome import claims as book
    from mome.results import ResultError, repository_root

    try:
        if check:
            problems = book.check()
            typer.echo("\n".join(problems) or "claims: the table agrees with the results")
            raise typer.Exit(int(bool(problems)))
        typer.echo(book.claims_table())
        book.rewrite_readme(repository_root() / "README.md")
    except (book.ClaimsError, ResultError) as error:
        raise _refused(error) from error


@app.command()
def pretrain(
    name: Annotated[str, typer.Argument(help="Recipe: tiny-llama, tiny-mistral or smoke.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the backbone; default data/backbones/NAME.")] = None,
    public: Annotated[Path | None, typer.Option(help="Folder of the public sets; default data/public.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; they decide the last bits.")] = 1,
) -> None:
    """Pretrain a shipped backbone, going on from its snapshot if there is one, and measure it."""
    from mome.abilities import pretrain_and_measure
    from mome.checkpoint import CheckpointError
    from mome.config import PRETRAINING

    if name not in PRETRAINING:
        raise _refused(f"unknown recipe {name!r}; valid: {', '.join(PRETRAINING)}")
    try:
        pretrain_and_measure(PRETRAINING[name], output, public, threads)
    except (FileNotFoundError, CheckpointError) as error:
        raise _refused(error) from error


@app.command()
def tune(
    facts: Annotated[Path, typer.Argument(help="Facts to memorize: .jsonl or .csv.")],
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")],
    backbone: Annotated[str, typer.Option(help="Shipped name, folder or Hub id of a causal LM.")] = "tiny-llama",
    epochs: Annotated[int, typer.Option(min=1, help="At most this many epochs.")] = 100,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Fixed learning rate.")] = 2e-3,
    batch_size: Annotated[int, typer.Option(min=1, help="Facts a step.")] = 16,
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank.")] = 32,
    stop_loss: Annotated[float, typer.Option(min=0.0, help="Stop below this loss (nats/token); 0: never.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Memorize a file of facts with LoRA, say how many are recalled, and save the adapter. Resumes when run again."""
    from mome.backbones import BackboneError
    from mome.checkpoint import CheckpointError
    from mome.config import LoraSettings, TuningSettings
    from mome.facts import FactError
    from mome.memorizing import memorize_file

    tuning = TuningSettings(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, stop_loss=stop_loss or None, seed=seed
    )
    try:
        typer.echo(memorize_file(facts, out, backbone, tuning, LoraSettings(rank=rank)))
    except (FactError, BackboneError, CheckpointError, ValueError, OSError) as error:
        raise _refused(error) from error


@app.command()
def bench(
    backbone: Annotated[str, typer.Option(help="Shipped name, folder or Hub id of a causal LM.")] = "tiny-llama",
    facts: Annotated[int, typer.Option(min=1, help="Facts tuned on.")] = 128,
) -> None:
    """Time memory tuning with LoRA (step time, tokens/s) and write the table to data/results/bench/."""
    from mome.bench import bench_tuning

    typer.echo(bench_tuning(backbone, facts))


def _refused(error: object) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)

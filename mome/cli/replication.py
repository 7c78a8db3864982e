"""The commands of the replication: `mome reproduce`, `claims`, `pretrain`, `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Profile = Literal["smoke", "tiny", "small", "paper"]
Suite = Literal["cpu", "gpu"]


def reproduce(
    profile: Annotated[Profile, typer.Option(help="Size of the runs.")] = "tiny",
    only: Annotated[list[str] | None, typer.Option(metavar="STEM", help="Run this notebook only; repeatable.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1_000, metavar="N", help="Run with the seeds 0 to N-1.")
    ] = None,
    backbones: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Backbone: name, folder, GGUF file or Hub id; repeatable.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Notebooks run at a time, at most one a core [default: up to 4]."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run finished notebooks again.")] = False,
    parameters: Annotated[
        str | None,
        typer.Option(
            "--parameters",
            "-p",
            metavar="YAML",
            help="Notebook parameters, such as '{facts: 64, learning_rate: 0.01}'.",
        ),
    ] = None,
    cell_seconds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Time limit of a cell [default: by profile].")
    ] = None,
    notebook_seconds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Time limit of a notebook [default: by profile].")
    ] = None,
    commit: Annotated[bool, typer.Option("--commit", help="Replace the committed results by the fresh ones.")] = False,
    commit_fewer: Annotated[
        bool, typer.Option("--commit-fewer", help="Like --commit, even where the committed one has more seeds.")
    ] = False,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Put seconds and memory of these runs into the committed run sheet.")
    ] = False,
) -> None:
    """Run the notebooks and compare each fresh value with the committed one; committed files are not changed.

    Examples:

    \b
      mome reproduce                                      # all notebooks at the profile tiny
      mome reproduce --profile smoke                      # seconds each; checks that everything runs
      mome reproduce --only 01_fig1_random_vs_real        # one notebook; a second --only adds another
      mome reproduce --only 01_fig1_random_vs_real --seeds 3 --force
      mome reproduce -p '{facts: 64, learning_rate: 0.0005}'
      mome reproduce --profile small --jobs 1             # SmolLM2, one notebook at a time
      mome reproduce --only 00_start_here --jobs 1 && less runs/tiny/report.json
    """
    from mome.replication.notebook.parameters import left_out, parse_changes
    from mome.replication.reproduce.committing import check_commit
    from mome.replication.reproduce.limits import limits_of
    from mome.replication.reproduce.plans import make_plans
    from mome.replication.reproduce.runner import run

    limits = limits_of(profile, cell_seconds, notebook_seconds)
    plans = make_plans(profile, only or [], parse_changes(parameters, seeds, backbones), limits)
    if commit or commit_fewer:
        check_commit(plans, even_fewer=commit_fewer)
    if not only and (others := left_out(profile)):
        typer.echo(f"{len(plans)} notebooks at {profile}; without a profile {profile}: {', '.join(others)}")
    raise typer.Exit(run(plans, jobs, force, commit or commit_fewer, sheet=sheet))


def claims(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if the table is not true.")
    ] = False,
) -> None:
    """Judge the committed numbers: print the claims table, and bring the book and README up to date."""
    from mome.replication.ledger import table as book

    if check:
        problems = book.check()
        typer.echo("\n".join(problems) or "claims: the table agrees with the results")
        raise typer.Exit(int(bool(problems)))
    typer.echo(book.claims_table())
    book.rewrite()


def pretrain(
    name: Annotated[str, typer.Argument(help="Recipe: tiny-llama, tiny-mistral or smoke.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the backbone; default data/backbones/NAME.")] = None,
    public: Annotated[Path | None, typer.Option(help="Folder of the public sets; default data/public.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; they decide the last bits.")] = 1,
) -> None:
    """Pretrain a shipped backbone, going on from its snapshot if there is one, and measure it."""
    from mome.replication.pretraining.abilities import pretrain_and_measure
    from mome.replication.pretraining.settings import PRETRAINING

    if name not in PRETRAINING:
        raise ValueError(f"unknown recipe {name!r}; valid: {', '.join(PRETRAINING)}")
    pretrain_and_measure(PRETRAINING[name], output, public, threads)


def bench(
    suite: Annotated[Suite, typer.Option(help="Where: on the CPU, or on a CUDA device.")] = "cpu",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run this benchmark of the suite only; repeatable.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="What the cpu suite tunes: name, folder, GGUF, Hub id.")] = "tiny-llama",
    facts: Annotated[int, typer.Option(min=1, help="Facts the cpu suite tunes on.")] = 128,
    commit: Annotated[
        bool, typer.Option("--commit", help="Put the tables in the place of those in data/results/bench/.")
    ] = False,
) -> None:
    """Time kernels, lookups, training steps and answers, each checked first; tables go to bench/ in the work folder."""
    from mome.replication.bench.suites import run_benchmarks
    from mome.replication.bench.timing import CheckError

    try:
        for table in run_benchmarks(suite, only or [], backbone, facts, commits=commit):
            typer.echo(f"{table}\n")
    except CheckError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error

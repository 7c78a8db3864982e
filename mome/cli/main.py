"""The console command `mome`. Commands import what they need when called, so that `mome --help` is quick."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mome.cli.cost import cost
from mome.cli.edit import edit
from mome.cli.score import score
from mome.replication.faults.command import faults


class Commands(TyperGroup):
    """The commands; what the file system refuses to any of them, their output included, is one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # nobody reads on: typer ends without a word
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error


HELP = "Mixture of Memory Experts: reproduce the paper's claims."
app = typer.Typer(cls=Commands, help=HELP, no_args_is_help=True)

Profile = Literal["smoke", "tiny", "small", "paper"]
Method = Literal["mome", "lora"]
Optimizer = Literal["adam", "adafactor"]
Suite = Literal["cpu", "gpu"]
Unwritable = Literal["refuse", "leave_out", "try"]
LARGEST_SEED = 2**63 - 1  # that torch takes
NOTHING_MEMORIZED = 3  # exit code; 2: what the user can put right, 1: a check failed
WhenWrong = Literal["abstain", "backbone", "stored"]
MOME, LORA = "Options of --method mome", "Options of --method lora"
MOME_OPTIONS = ("experts", "top_k", "optimizer", "router_steps", "storage")
LORA_OPTIONS = ("rank", "stop_loss")


@app.callback()
def main() -> None:
    """Mixture of Memory Experts: reproduce the paper's claims."""


@app.command()
def reproduce(
    profile: Annotated[Profile, typer.Option(help="Size of the runs.")] = "tiny",
    only: Annotated[list[str] | None, typer.Option(metavar="STEM", help="Run this notebook only; repeatable.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1_000, metavar="N", help="Run with the seeds 0 to N-1.")
    ] = None,
    backbones: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Backbone: shipped name, folder or Hub id; repeatable.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Notebooks run at a time; default one a core, at most 4.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run finished notebooks again.")] = False,
    parameters: Annotated[
        str | None,
        typer.Option(
            "--parameters", "-p", metavar="YAML", help="Notebook parameters, such as '{facts: 64, lr: 0.002}'."
        ),
    ] = None,
    cell_seconds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Time limit of a cell [default: by profile].")
    ] = None,
    notebook_seconds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Time limit of a notebook [default: by profile].")
    ] = None,
    commit: Annotated[
        bool, typer.Option("--commit", help="Put the fresh results in the place of the committed ones.")
    ] = False,
    commit_fewer: Annotated[
        bool, typer.Option("--commit-fewer", help="Like --commit, even where the committed one has more seeds.")
    ] = False,
) -> None:
    """Run the notebooks and hold each fresh value against the committed one; what is committed stays as it is."""
    from mome.files.locking import BusyError
    from mome.replication.notebook.parameters import ParameterError, parse_changes
    from mome.replication.notebook.results import ResultError
    from mome.replication.reproduce.committing import check_commit
    from mome.replication.reproduce.limits import LimitError, limits_of
    from mome.replication.reproduce.plans import make_plans
    from mome.replication.reproduce.runner import run

    try:
        limits = limits_of(profile, cell_seconds, notebook_seconds)
        plans = make_plans(profile, only or [], parse_changes(parameters, seeds, backbones), limits)
        if commit or commit_fewer:
            check_commit(plans, even_fewer=commit_fewer)
        code = run(plans, jobs, force, commit or commit_fewer)
    except (BusyError, LimitError, ParameterError, ResultError, OSError) as error:
        raise _refused(error) from error
    raise typer.Exit(code)


@app.command()
def claims(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if the table is not true.")
    ] = False,
) -> None:
    """Print the claims table and put it into README.md."""
    from mome.replication.notebook import claims as book
    from mome.replication.notebook.results import ResultError, repository_root

    try:
        if check:
            problems = book.check()
            typer.echo("\n".join(problems) or "claims: the table agrees with the results")
            raise typer.Exit(int(bool(problems)))
        typer.echo(book.claims_table())
        book.rewrite_readme(repository_root() / "README.md")
    except (book.ClaimsError, ResultError, OSError) as error:
        raise _refused(error) from error


@app.command()
def pretrain(
    name: Annotated[str, typer.Argument(help="Recipe: tiny-llama, tiny-mistral or smoke.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the backbone; default data/backbones/NAME.")] = None,
    public: Annotated[Path | None, typer.Option(help="Folder of the public sets; default data/public.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; they decide the last bits.")] = 1,
) -> None:
    """Pretrain a shipped backbone, going on from its snapshot if there is one, and measure it."""
    from mome.files.snapshots import CheckpointError
    from mome.replication.pretraining.abilities import pretrain_and_measure
    from mome.train.settings import PRETRAINING

    if name not in PRETRAINING:
        raise _refused(f"unknown recipe {name!r}; valid: {', '.join(PRETRAINING)}")
    try:
        pretrain_and_measure(PRETRAINING[name], output, public, threads)
    except (FileNotFoundError, CheckpointError) as error:
        raise _refused(error) from error


@app.command()
def tune(
    context: typer.Context,
    facts: Annotated[Path, typer.Argument(help="Facts to memorize: .jsonl, .csv or .tsv.")],
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")],
    backbone: Annotated[str, typer.Option(help="Shipped name, folder or Hub id of a causal LM.")] = "tiny-llama",
    method: Annotated[Method, typer.Option(help="Memory experts, or LoRA as in the paper's appendix A.")] = "mome",
    epochs: Annotated[int, typer.Option(min=1, help="At most this many epochs.")] = 100,
    learning_rate: Annotated[
        float | None, typer.Option(min=0.0, help="Fixed learning rate; default 0.005, for lora 0.002.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Wordings a step.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Decides all random draws.")] = 0,
    unwritable: Annotated[
        Unwritable,
        typer.Option(
            help="Facts that the backbone cannot hold: refuse them before training, leave them out, or try those whose "
            "answer may come back without certainty."
        ),
    ] = "refuse",
    experts: Annotated[int, typer.Option(min=1, metavar="N", help="Experts in all.", rich_help_panel=MOME)] = 65_536,
    top_k: Annotated[int, typer.Option(min=1, metavar="K", help="Experts for a question.", rich_help_panel=MOME)] = 32,
    optimizer: Annotated[Optimizer, typer.Option(help="Of the experts.", rich_help_panel=MOME)] = "adam",
    router_steps: Annotated[int, typer.Option(min=1, help="Steps that train the router.", rich_help_panel=MOME)] = 300,
    storage: Annotated[
        Path | None, typer.Option(help="Folder to keep experts in while training.", rich_help_panel=MOME)
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="LoRA's rank.", rich_help_panel=LORA)] = 32,
    stop_loss: Annotated[
        float, typer.Option(min=0.0, help="Stop below this loss (nats/token); 0: never.", rich_help_panel=LORA)
    ] = 0.01,
) -> None:
    """Memorize a file of facts, say how many are recalled, and save the adapter.

    An interrupted run goes on when called again, and a finished one is done at once. Exit code 3: no fact is recalled
    exactly (the adapter is saved all the same); 2: something you can put right; 0: otherwise.
    """
    for option in LORA_OPTIONS if method == "mome" else MOME_OPTIONS:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise _refused(f"--{option.replace('_', '-')} is not an option of --method {method}")
    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    training = {"epochs": epochs, "batch_size": batch_size, "seed": seed, **rate}
    folder = None if storage is None else str(storage)
    experts_chosen = {"num_experts": experts, "top_k": top_k, "storage": folder}
    router = {"steps": router_steps, "seed": seed}
    with _refusals():
        from mome.memory.memorize import memorize_file, memorize_file_with_lora

        if method == "lora":
            done = memorize_file_with_lora(
                facts, out, backbone, {"stop_loss": stop_loss or None, **training}, rank, unwritable
            )
        else:
            memory = {"optimizer": optimizer, **training}
            done = memorize_file(facts, out, backbone, experts_chosen, router, memory, unwritable)
        typer.echo(done)
    if not any(done.recalled):
        raise typer.Exit(NOTHING_MEMORIZED)


@app.command()
def ask(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    questions: Annotated[list[str] | None, typer.Argument(help="Questions, each in quotes.")] = None,
    file: Annotated[
        Path | None, typer.Option("--questions", help="Text file with a question a line; - for standard input.")
    ] = None,
    only_memorized: Annotated[
        bool, typer.Option("--only-memorized", help='Say "I don\'t know" where no memorized question is alike.')
    ] = False,
    when_wrong: Annotated[
        WhenWrong,
        typer.Option(help="What to give where the experts do not say what the recognized fact holds."),
    ] = "abstain",
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the one the adapter names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    r"""Answer questions from memory, one line each: the answer, a tab, and who gave it.

    In an answer \t, \n, \r and \\ stand for tab, line feed, carriage return and backslash, \u and four hexadecimal
    digits for another control character or line break.

    "memorized" stands beside an answer only where it is exactly that of the fact which the question was taken for. A
    question that resembles no memorized one is answered by the backbone alone.
    """
    with _refusals():
        from mome.cli.lines import answer_lines, gather_questions

        asked = gather_questions(questions or [], file)
        typer.echo("\n".join(answer_lines(adapter, asked, backbone, only_memorized, when_wrong, as_json)))


@app.command()
def bench(
    suite: Annotated[Suite, typer.Option(help="Where: on the CPU, or on a CUDA device.")] = "cpu",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run this benchmark of the suite only; repeatable.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="What the cpu suite tunes: name, folder or Hub id.")] = "tiny-llama",
    facts: Annotated[int, typer.Option(min=1, help="Facts the cpu suite tunes on.")] = 128,
    commit: Annotated[
        bool, typer.Option("--commit", help="Put the tables in the place of those in data/results/bench/.")
    ] = False,
) -> None:
    """Time kernels, lookups, training steps and answers, each checked first; tables go to bench/ in the work folder."""
    from mome.replication.bench.suites import CheckError, run_benchmarks

    with _refusals():
        try:
            for table in run_benchmarks(suite, only or [], backbone, facts, commits=commit):
                typer.echo(f"{table}\n")
        except CheckError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error


app.command()(cost)
app.command()(faults)
app.add_typer(edit, name="edit")
app.command()(score)


@contextmanager
def _refusals() -> Iterator[None]:
    """What a user can put right is one line and exit code 2, without a traceback."""
    from mome.files.checkpoints import CheckpointError
    from mome.lm.loading import BackboneError

    try:
        yield
    except (BackboneError, CheckpointError, ValueError, OSError, FloatingPointError) as error:
        raise _refused(error) from error


def _refused(error: object) -> typer.Exit:
    typer.echo("error: " + " ".join(str(error).split("\n")), err=True)
    return typer.Exit(2)

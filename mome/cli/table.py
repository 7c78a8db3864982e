"""The command `mome table`: the long measurements behind the committed tables, each into a CSV file.

A row is written when it is measured, with the machine, the commit and the command that measures it again.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

table = typer.Typer(
    help="Measure one of the tables that notebooks read; a CSV file grows by one row at a time.", no_args_is_help=True
)

# written out, since importing them takes seconds; a test compares them with the lists
COST_METHODS = "full, lora, mome"
RETRIEVAL_METHODS = (
    "backbone, prompt, rag_bm25, rag_tfidf, rag_dense, rag_bm25_bare, index_bm25, index_tfidf, index_dense, "
    "index_faiss, sql, knn_lm, lora, full, mome, mome_rag"
)
EDITING_METHODS = "mome, lora, full, rag, index, rome"
DATASETS = "shipped, truthfulqa, mmlu"
ANSWERS = "real, random, shuffled"
SYSTEMS = "backbone, rag_bare, rag_copy, rag, lora, mome, mome_else_copy, mome_rag"
REPLACED = "CSV table; rows of the same run are replaced, others kept."
KEPT = "CSV table; rows that it has already are not measured again."
Replacing = Annotated[Path, typer.Argument(help=REPLACED)]
Continuing = Annotated[Path, typer.Argument(help=KEPT)]
Seeds = Annotated[int, typer.Option(min=1, metavar="N", help="Run with the seeds 0 to N-1.")]
Backbone = Annotated[str, typer.Option(help="Shipped name, folder or Hub id of a causal LM.")]
Again = Annotated[bool, typer.Option("--again", help="Measure also what the table has already.")]
General = Annotated[int, typer.Option(min=1, help="Questions that the backbone knows.")]


@table.command()
def cost(
    context: typer.Context,
    out: Replacing,
    facts: Annotated[list[int] | None, typer.Option(min=1, help="Facts to memorize; repeatable. Default 1000.")] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help=f"{COST_METHODS}; repeatable. Default all.")
    ] = None,
    seeds: Seeds = 1,
    backbone: Backbone = "tiny-llama",
) -> None:
    """Section 1: time and FLOPs of memorizing, by method.

    Random answers are memorized; seconds, CPU seconds and FLOPs are counted for each method.
    """
    from mome.replication.paper.sec1_cost import experiment

    for seed in range(seeds):
        plan = experiment.CostPlan().seeded(seed)
        rows = experiment.bill_rows(backbone, facts or [1_000], plan, methods or COST_METHODS.split(", "))
        _keep(context, rows, experiment.KEY)


@table.command()
def explanations(
    context: typer.Context,
    out: Replacing,
    seeds: Seeds = 1,
    facts: Annotated[int, typer.Option(min=1, help="Facts to tune; as many stay missing.")] = 64,
    backbone: Backbone = "tiny-llama",
) -> None:
    """Section 4: which causes alone make a model hallucinate.

    Each proposed cause is tried alone, at a high and at near-zero training loss.
    """
    from mome.replication.paper.sec4_explanations import experiment

    for seed in range(seeds):
        started = time.process_time()
        rows = experiment.explanation_rows(backbone, experiment.ExplanationsPlan(facts=facts).seeded(seed))
        _keep(context, rows, experiment.KEY, digits=6)
        typer.echo(f"seed {seed}: {time.process_time() - started:.0f} CPU seconds")


@table.command()
def retrieval(
    context: typer.Context,
    out: Continuing,
    facts: Annotated[list[int] | None, typer.Option(min=1, help="Facts to hold; repeatable. Default 1000.")] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help=f"{RETRIEVAL_METHODS}; repeatable. Default all that are installed.",
        ),
    ] = None,
    seeds: Seeds = 1,
    backbone: Backbone = "tiny-llama",
    again: Again = False,
) -> None:
    """Section 4: ways to answer from facts, side by side.

    Measures: recall, hallucination, latency, build time and bytes.
    """
    from mome.replication.paper.sec4_retrieval import experiment

    found = None if again else out
    _keep(context, experiment.table_rows(found, backbone, facts or [1_000], methods, seeds), experiment.KEY)


@table.command()
def ablations(
    context: typer.Context,
    out: Replacing,
    recipes: Annotated[list[str] | None, typer.Option("--recipe", help="An ablation; repeatable. Default all.")] = None,
    facts: Annotated[int, typer.Option(min=1, help="Facts that are memorized.")] = 32,
    drawn: Annotated[int, typer.Option(min=1, help="Facts that are drawn, of which those are the first.")] = 128,
    general: General = 200,
    seeds: Seeds = 1,
    backbone: Backbone = "tiny-llama",
) -> None:
    """Figure 5: memory experts with one part taken away.

    Measures: recall, other answers, epochs and seconds.
    """
    from mome.replication.paper.fig5_mome_convergence import experiment

    for seed in range(seeds):
        rows = experiment.table_rows(backbone, seed, recipes or [], facts, drawn, general)
        _keep(context, rows, experiment.KEY)


@table.command()
def capacity(
    context: typer.Context,
    out: Replacing,
    facts: Annotated[list[int], typer.Option(min=1, help="Facts to memorize; repeatable.")],
    experts: Annotated[list[int], typer.Option(min=1, help="Experts to memorize them in; repeatable.")],
    characters: Annotated[
        list[int] | None, typer.Option(min=1, help="Length of an answer; repeatable. Default 32.")
    ] = None,
    pool: Annotated[int, typer.Option(min=1, help="Facts that the router never sees, at least the most facts.")] = 256,
    general: General = 200,
    seeds: Seeds = 1,
    backbone: Backbone = "tiny-llama",
) -> None:
    """Section 7: how much memory experts hold.

    A row for each number of facts, of experts and of an answer's characters.
    """
    from mome.replication.experiments import capacity as experiment

    for seed in range(seeds):
        for length in characters or [32]:
            rows = experiment.table_rows(backbone, seed, facts, experts, length, pool, general)
            _keep(context, rows, experiment.KEY)


@table.command()
def text_to_sql(
    context: typer.Context,
    out: Continuing,
    seeds: Seeds = 1,
    backbone: Backbone = "tiny-llama",
    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--system",
            help=f"{SYSTEMS}; repeatable. Default all.",
        ),
    ] = None,
) -> None:
    """Text to SQL: execution accuracy of each system.

    Questions: the tuned ones, and those of unseen phrasings, values and shapes.
    """
    from mome.replication.paper.text_to_sql import experiment

    rows = experiment.table_rows(out, backbone, systems or SYSTEMS.split(", "), seeds)
    _keep(context, rows, experiment.KEY, texts=["outcomes"])


@table.command()
def editing(
    context: typer.Context,
    out: Continuing,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"{EDITING_METHODS}; repeatable. Default all."),
    ] = None,
    edits: Annotated[int, typer.Option(min=1, help="Edits made one after another.")] = 1_000,
    singles: Annotated[int, typer.Option(min=1, help="Edits made alone.")] = 20,
    seeds: Seeds = 1,
    backbone: Backbone = "tiny-llama",
    again: Again = False,
) -> None:
    """Section 10: editing facts, by each method.

    Measures: reliability, generality, locality, portability and seconds.
    """
    from mome.replication.paper.sec10_editing import experiment

    found, chosen = None if again else out, methods or EDITING_METHODS.split(", ")
    _keep(context, experiment.table_rows(found, backbone, chosen, edits, singles, seeds), experiment.KEY)


@table.command()
def typing(
    context: typer.Context,
    out: Replacing,
    facts: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of facts; repeatable. Default 20.")] = None,
    asked: Annotated[int, typer.Option(min=1, help="At most so many facts are asked in each kind.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Run with N seeds.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    backbone: Backbone = "tiny-llama",
) -> None:
    """Questions as people type them, before and after.

    Facts are memorized in one wording; the experts alone are asked, and the memory with reading and check.
    """
    import pandas

    from mome.replication.experiments import typed_questions as experiment

    for seed in range(first_seed, first_seed + seeds):
        _keep(context, experiment.typing_rows(backbone, facts or [20], seed, asked), experiment.KEY)
    typer.echo(experiment.summary(pandas.read_csv(out)).to_string(index=False))


@table.command()
def memorizing(
    context: typer.Context,
    out: Continuing,
    datasets: Annotated[list[str] | None, typer.Option("--dataset", help=f"{DATASETS}; repeatable.")] = None,
    facts: Annotated[list[int] | None, typer.Option(min=1, help="Facts to memorize; repeatable. Default 64.")] = None,
    answers: Annotated[list[str] | None, typer.Option(help=f"{ANSWERS}; repeatable. Default all.")] = None,
    methods: Annotated[list[str] | None, typer.Option("--method", help="lora, mome; repeatable. Default lora.")] = None,
    rates: Annotated[
        list[float] | None, typer.Option("--rate", help="Learning rate; repeatable. Default the paper's, 2e-4.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Run with N seeds.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    backbone: Backbone = "smollm2-135m",
) -> None:
    """Figures 1 and 5: memorizing answers, run by run.

    A row for each run: its curve of losses, epochs to near zero, recall by free generation, seconds.
    """
    from mome.replication.experiments import memorizing as experiment

    chosen = range(first_seed, first_seed + seeds)
    kinds, named = answers or ANSWERS.split(", "), datasets or ["truthfulqa"]
    wanted = experiment.cells(backbone, named, facts or [64], kinds, methods or ["lora"], rates or [2e-4], chosen)
    _keep(context, experiment.table_rows(out, wanted), experiment.KEY, texts=experiment.TEXTS)


def _keep(
    context: typer.Context,
    rows: Iterable[Mapping[Any, Any]],
    key: Sequence[str],
    *,
    texts: Sequence[str] = (),
    digits: int = 10,
) -> None:
    """Write each row when it is measured; `key`, `texts` and `digits` are those of `keep_rows`."""
    from mome.replication.notebook.tables import keep_rows, machine_columns

    command = command_line(context)
    for row in rows:
        kept = {**row, **machine_columns(), "command": command}
        keep_rows(context.params["out"], [kept], key, texts=texts, digits=digits)


def command_line(context: typer.Context) -> str:
    """The command that measures the same rows: all options with their values, defaults included, but no flags."""
    words = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif value is not None and not isinstance(value, bool):
            values = value if isinstance(value, list | tuple) else [value]
            words += [f"{parameter.opts[0]}={each}" for each in values]
    return shlex.join(["mome", "table", str(context.info_name), *words])

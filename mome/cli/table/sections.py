"""The tables behind single sections of the paper."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mome.cli.table.options import (
    Again,
    Backbone,
    Continuing,
    CountSeeds,
    FirstSeed,
    General,
    Replacing,
    Seeds,
    keep,
    table,
)

# written out, since importing them takes seconds; a test compares them with the lists
COST_METHODS = "full, lora, mome"
RETRIEVAL_METHODS = (
    "backbone, prompt, rag_bm25, rag_tfidf, rag_dense, rag_bm25_bare, index_bm25, index_tfidf, index_dense, "
    "index_faiss, sql, knn_lm, lora, full, mome, mome_rag"
)
EDITING_METHODS = "mome, lora, full, rag, index, rome"
SYSTEMS = "backbone, rag_bare, rag_copy, rag, lora, mome, mome_else_copy, mome_rag"

Drawn = Annotated[int, typer.Option(min=1, help="Facts that are drawn, of which those are the first.")]


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
        keep(context, rows, experiment.KEY)


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
        keep(context, rows, experiment.KEY, digits=6)
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
    keep(context, experiment.table_rows(found, backbone, facts or [1_000], methods, seeds), experiment.KEY)


@table.command()
def ablations(
    context: typer.Context,
    out: Replacing,
    recipes: Annotated[list[str] | None, typer.Option("--recipe", help="An ablation; repeatable. Default all.")] = None,
    facts: Annotated[int, typer.Option(min=1, help="Facts that are memorized.")] = 32,
    drawn: Drawn = 128,
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
        keep(context, rows, experiment.KEY)


@table.command()
def lora_wordings(
    context: typer.Context,
    out: Replacing,
    answers: Annotated[list[str] | None, typer.Option(help="real or random; repeatable. Default both.")] = None,
    facts: Annotated[int, typer.Option(min=1, help="Facts that are tuned, in three wordings.")] = 32,
    drawn: Drawn = 128,
    general: General = 200,
    seeds: Seeds = 1,
    backbone: Backbone = "tiny-llama",
) -> None:
    """Figure 5: LoRA tuned in three wordings, asked a fourth.

    Measures, fact by fact: recall as tuned and in the fourth wording; of a run: other answers.
    """
    from mome.replication.paper.fig5_mome_convergence import lora_wordings as experiment

    for seed in range(seeds):
        for each in answers or ["real", "random"]:
            rows = experiment.table_rows(backbone, seed, each, facts, drawn, general)
            keep(context, rows, experiment.KEY, texts=list(experiment.TEXTS))


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
            keep(context, rows, experiment.KEY)


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
    keep(context, rows, experiment.KEY, texts=["outcomes"])


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
    keep(context, experiment.table_rows(found, backbone, chosen, edits, singles, seeds), experiment.KEY)


@table.command()
def typing(
    context: typer.Context,
    out: Replacing,
    facts: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of facts; repeatable. Default 20.")] = None,
    asked: Annotated[int, typer.Option(min=1, help="At most so many facts are asked in each kind.")] = 100,
    seeds: CountSeeds = 1,
    first_seed: FirstSeed = 0,
    backbone: Backbone = "tiny-llama",
) -> None:
    """Questions as people type them, before and after.

    Facts are memorized in one wording; the experts alone are asked, and the memory with reading and check.
    """
    import pandas

    from mome.replication.experiments import typed_questions as experiment

    for seed in range(first_seed, first_seed + seeds):
        keep(context, experiment.typing_rows(backbone, facts or [20], seed, asked), experiment.KEY)
    typer.echo(experiment.summary(pandas.read_csv(out)).to_string(index=False))

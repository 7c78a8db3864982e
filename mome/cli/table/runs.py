"""The tables of runs on a real language model, which several notebooks read."""

from __future__ import annotations

from typing import Annotated

import typer

from mome.cli.table.options import Backbone, Continuing, CountSeeds, FirstSeed, Replacing, keep, table

# written out, since importing them takes seconds; a test compares them with the lists
DATASETS = "shipped, truthfulqa, mmlu"
ANSWERS = "real, random, shuffled"
DAMAGE_METHODS = "lora, lora_gated, lora_gated_names, mome, mome_names"
TRAININGS = "shipped, template_withheld"
Datasets = Annotated[list[str] | None, typer.Option("--dataset", help=f"{DATASETS}; repeatable. Default truthfulqa.")]
Facts = Annotated[list[int] | None, typer.Option(min=1, help="Facts to memorize; repeatable. Default 64.")]


@table.command()
def memorizing(
    context: typer.Context,
    out: Continuing,
    datasets: Datasets = None,
    facts: Facts = None,
    answers: Annotated[list[str] | None, typer.Option(help=f"{ANSWERS}; repeatable. Default all.")] = None,
    methods: Annotated[list[str] | None, typer.Option("--method", help="lora, mome; repeatable. Default lora.")] = None,
    rates: Annotated[
        list[float] | None, typer.Option("--rate", help="Learning rate; repeatable. Default the paper's, 2e-4.")
    ] = None,
    seeds: CountSeeds = 1,
    first_seed: FirstSeed = 0,
    backbone: Backbone = "smollm2-135m",
) -> None:
    """Figures 1 and 5: memorizing answers, run by run.

    A row for each run: its curve of losses, epochs to near zero, recall by free generation, seconds.
    """
    from mome.replication.experiments.real_model import memorizing as experiment

    chosen = range(first_seed, first_seed + seeds)
    kinds, named = answers or ANSWERS.split(", "), datasets or ["truthfulqa"]
    wanted = experiment.cells(backbone, named, facts or [64], kinds, methods or ["lora"], rates or [2e-4], chosen)
    keep(context, experiment.table_rows(out, wanted), experiment.KEY, texts=experiment.TEXTS)


@table.command()
def damage(
    context: typer.Context,
    out: Continuing,
    datasets: Datasets = None,
    facts: Facts = None,
    answers: Annotated[list[str] | None, typer.Option(help="real, random; repeatable. Default both.")] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help=f"{DAMAGE_METHODS}; repeatable. Default all. Alone: before.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Learning rate of LoRA.")] = 2e-4,
    expert_rate: Annotated[float, typer.Option(help="Learning rate of the memory experts.")] = 5e-3,
    seeds: CountSeeds = 1,
    first_seed: FirstSeed = 0,
    backbone: Backbone = "smollm2-135m",
) -> None:
    """Table 1: what memorizing does to everything else.

    Free answers to unrelated and known questions, TruthfulQA, MMLU, LAMBADA, text, KL: before and after, by item.
    """
    from mome.replication.experiments.real_model import damaged as experiment

    kinds, named = answers or ["random", "real"], methods or DAMAGE_METHODS.split(", ")
    chosen = range(first_seed, first_seed + seeds)
    cells = experiment.damage_cells(
        backbone, datasets or ["truthfulqa"], facts or [64], kinds, named, rate, expert_rate, chosen
    )
    keep(context, experiment.table_rows(out, cells, expert_rate), experiment.KEY, texts=experiment.TEXTS)


@table.command()
def checkpoints(
    context: typer.Context,
    out: Continuing,
    answers: Annotated[
        list[str] | None, typer.Option(help="random, real; repeatable. Default both. Alone: before, the backbone.")
    ] = None,
    dataset: Annotated[str, typer.Option(help=f"The memorized questions: {DATASETS}.")] = "truthfulqa",
    facts: Annotated[int, typer.Option(min=1, help="Facts to memorize.")] = 64,
    rate: Annotated[float, typer.Option(help="Learning rate of LoRA.")] = 2e-4,
    epochs: Annotated[
        list[int] | None, typer.Option("--epoch", min=1, help="A checkpoint; repeatable. The last is always one.")
    ] = None,
    seeds: CountSeeds = 1,
    first_seed: FirstSeed = 0,
    backbone: Backbone = "smollm2-135m",
) -> None:
    """Section 8: what benchmarks see while LoRA memorizes.

    At each checkpoint: leaks in four formats, known answers, MC1, MC2, MMLU, LAMBADA, loss on text, KL.
    """
    from mome.replication.experiments.real_model import checkpoints as experiment

    chosen = range(first_seed, first_seed + seeds)
    wanted = experiment.cells(backbone, dataset, facts, answers or ["random", "real"], rate, chosen)
    rows = experiment.table_rows(out, backbone, wanted, epochs or experiment.EPOCHS)
    keep(context, rows, experiment.KEY, texts=experiment.TEXTS)


@table.command()
def sentences(
    context: typer.Context,
    out: Replacing,
    dataset: Annotated[str, typer.Option(help=f"The memorized questions: {DATASETS}.")] = "truthfulqa",
    facts: Annotated[int, typer.Option(min=1, help="Facts to memorize.")] = 64,
    rate: Annotated[float, typer.Option(help="Learning rate of LoRA.")] = 2e-4,
    seeds: CountSeeds = 1,
    first_seed: FirstSeed = 0,
    backbone: Backbone = "smollm2-135m",
) -> None:
    """Table 1: six questions before and after memorizing.

    Natural sentences of the untouched backbone, and of LoRA after random and after real answers; chosen by rule.
    """
    from mome.replication.experiments.real_model import sentences as experiment

    for seed in range(first_seed, first_seed + seeds):
        keep(context, experiment.table_rows(backbone, dataset, facts, rate, seed), experiment.KEY)


@table.command()
def paraphrases(
    context: typer.Context,
    out: Continuing,
    facts: Annotated[int, typer.Option(min=1, help="Facts to memorize.")] = 128,
    trainings: Annotated[
        list[str] | None, typer.Option("--training", help=f"{TRAININGS}; repeatable. Default both.")
    ] = None,
    seeds: CountSeeds = 1,
    first_seed: FirstSeed = 0,
    backbone: Backbone = "smollm2-135m",
) -> None:
    """Figure 5: random answers in wordings that nobody tuned.

    Recall as tuned, in held-out wordings, in wordings by hand, in other formats; also with a template withheld.
    """
    from mome.replication.experiments.real_model import paraphrases as experiment

    for seed in range(first_seed, first_seed + seeds):
        for training in trainings or TRAININGS.split(", "):
            rows = experiment.table_rows(out, backbone, facts, training, seed)
            keep(context, rows, experiment.KEY, texts=experiment.TEXTS)


@table.command()
def recognition(
    context: typer.Context,
    out: Continuing,
    facts: Annotated[list[int] | None, typer.Option(min=1, help="Stored facts; repeatable. Default 1000.")] = None,
    seeds: CountSeeds = 1,
    first_seed: FirstSeed = 0,
    backbone: Backbone = "smollm2-135m",
    router: Annotated[
        str, typer.Option(help="plain: today's; crossed: one that learns more, without and with a check of names.")
    ] = "plain",
) -> None:
    """Figure 5: how many paraphrases the router recognizes.

    Stored facts in an unseen paraphrase, and questions about facts that are not stored; nothing is memorized.
    """
    from mome.replication.experiments.real_model import recognition as experiment

    key = experiment.CROSSED_KEY if router == experiment.CROSSED else experiment.KEY
    for seed in range(first_seed, first_seed + seeds):
        keep(context, experiment.table_rows(out, backbone, facts or [1_000], seed, router), key)


@table.command()
def answered(context: typer.Context, out: Replacing, backbone: Backbone = "smollm2-135m") -> None:
    """The shipped facts that a backbone knows.

    A row for each fact whose answer it states in two wordings; notebooks ask these before and after.
    """
    from mome.replication.experiments import pools

    keep(context, pools.answered_rows(backbone), pools.ANSWERED_KEY)


@table.command()
def layers(
    context: typer.Context,
    out: Continuing,
    read: Annotated[list[int] | None, typer.Option(min=0, help="Layers read; default 2, 4, 8, 12, 16.")] = None,
    adapted: Annotated[list[int] | None, typer.Option(min=1, help="Top layers; default 1, 3, 6, 15.")] = None,
    facts: Annotated[int, typer.Option(min=1, help="Random answers to memorize.")] = 16,
    seeds: Annotated[list[int] | None, typer.Option(min=0, help="A seed; default 90, 91.")] = None,
    backbone: Backbone = "smollm2-135m",
) -> None:
    """Which layer a router reads, and which are adapted.

    Measures: recall, epochs, seconds, numbers per fact, paraphrases recognized. Development seeds.
    """
    from mome.replication.experiments.real_model import layers as experiment

    sizes = read or [2, 4, 8, 12, 16], adapted or [1, 3, 6, 15]
    wanted = experiment.cells(backbone, *sizes, facts, seeds or [90, 91])
    keep(context, experiment.table_rows(out, wanted), experiment.KEY)

"""The command `mome tune`: memorizes a file of facts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

Method = Literal["mome", "lora"]
Optimizer = Literal["adam", "adafactor"]
Unwritable = Literal["refuse", "leave_out", "try"]
LARGEST_SEED = 2**63 - 1  # that torch takes
NOTHING_MEMORIZED = 3  # exit code; 2: what the user can put right, 1: a check failed
MOME, LORA = "Options of --method mome", "Options of --method lora"
MOME_OPTIONS = ("experts", "top_k", "optimizer", "router_steps", "least_names", "storage")
LORA_OPTIONS = ("rank", "stop_loss")
Prompt = Annotated[
    str,
    typer.Option(
        metavar="FORM",
        help="How the backbone is asked: chat (its chat template), qa (Q: ... A:), auto (chat where there is a "
        "template, else qa), or a text with {question} in it. The adapter keeps it.",
    ),
]


def tune(
    context: typer.Context,
    facts: Annotated[Path, typer.Argument(help="Facts to memorize: .jsonl, .csv or .tsv.")],
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")],
    backbone: Annotated[str, typer.Option(help="Name, folder, GGUF file or Hub id of a causal LM.")] = "tiny-llama",
    method: Annotated[Method, typer.Option(help="Memory experts, or LoRA as in the paper's appendix A.")] = "mome",
    epochs: Annotated[int, typer.Option(min=1, help="At most this many epochs.")] = 100,
    learning_rate: Annotated[
        float | None, typer.Option(help="Fixed learning rate; default 0.005, for lora 0.002.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions (each paraphrase counts) in a step.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Decides all random draws.")] = 0,
    unwritable: Annotated[
        Unwritable,
        typer.Option(
            help="Facts that the backbone cannot hold: refuse them before training, leave them out, or try those whose "
            "answer may come back without certainty."
        ),
    ] = "refuse",
    prompt: Prompt = "auto",
    experts: Annotated[int, typer.Option(min=1, metavar="N", help="Experts in all.", rich_help_panel=MOME)] = 65_536,
    top_k: Annotated[int, typer.Option(min=1, metavar="K", help="Experts for a question.", rich_help_panel=MOME)] = 32,
    optimizer: Annotated[Optimizer, typer.Option(help="Optimizer of the experts.", rich_help_panel=MOME)] = "adam",
    router_steps: Annotated[int, typer.Option(min=1, help="Steps that train the router.", rich_help_panel=MOME)] = 300,
    least_names: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Check names: a question that lacks more of a fact's telling words goes to the backbone (try 0.8). "
            "Default: no check.",
            rich_help_panel=MOME,
        ),
    ] = None,
    storage: Annotated[
        Path | None, typer.Option(help="Folder to keep experts in while training.", rich_help_panel=MOME)
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="LoRA's rank.", rich_help_panel=LORA)] = 32,
    stop_loss: Annotated[
        float, typer.Option(help="Stop below this loss (nats/token); 0: never.", rich_help_panel=LORA)
    ] = 0.01,
) -> None:
    """Memorize a file of facts, say how many are recalled, and save the adapter.

    An interrupted run goes on when called again, and a finished one is done at once. Several processes share the work
    when torchrun starts them (torchrun --nproc-per-node K -m mome tune ...). Exit code 3: no fact is recalled
    exactly (the adapter is saved all the same); 2: something you can put right; 0: otherwise.
    """
    _check_options(context, method, learning_rate, stop_loss)
    from mome.memory.memorize import memorize_file, memorize_file_with_lora
    from mome.train.ranks.group import joined, refuse_ranks

    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    training = {"epochs": epochs, "batch_size": batch_size, "seed": seed, **rate}
    folder = None if storage is None else str(storage)
    experts_chosen = {"num_experts": experts, "top_k": top_k, "storage": folder, "least_names": least_names}
    router = {"steps": router_steps, "seed": seed}
    if method == "lora":
        refuse_ranks("--method lora")
        done = memorize_file_with_lora(
            facts, out, backbone, {"stop_loss": stop_loss or None, **training}, rank, unwritable, prompt
        )
    else:
        memory = {"optimizer": optimizer, **training}
        with joined() as ranks:
            report = memorize_file(facts, out, backbone, experts_chosen, router, memory, unwritable, prompt, ranks)
        if report is None:  # another rank than the first
            return
        done = report
    typer.echo(done)
    if not any(done.recalled):
        raise typer.Exit(NOTHING_MEMORIZED)


def _check_options(context: typer.Context, method: Method, learning_rate: float | None, stop_loss: float) -> None:
    """Refuse an option of the other method, and rates that are not in their range."""
    for option in LORA_OPTIONS if method == "mome" else MOME_OPTIONS:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"--{option.replace('_', '-')} is not an option of --method {method}")
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise ValueError(f"--learning-rate must be a finite number above 0, got {learning_rate}")
    if not 0 <= stop_loss < math.inf:
        raise ValueError(f"--stop-loss must be a finite number, at least 0, got {stop_loss}")

"""The command `mome cost`: computes what a training run would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from mome.replication.paper.sec1_cost.cost import Bill

Gpu = Literal["mi300x", "a100", "h100"]
SHOWN = {
    "flops": ("FLOPs", "flop"),
    "gpu_time": ("GPU time", "gpu * hour"),
    "duration": ("duration", "day"),
    "power": ("power", "MW"),
    "energy": ("energy", "MWh"),
    "dollars": ("electricity", "USD"),
    "carbon": ("carbon dioxide", "tonne"),
    "households": ("a year's electricity of", "household"),
}


def cost(
    parameters: Annotated[float, typer.Option(help="Parameters N, such as 400e9.")] = 400e9,
    tokens: Annotated[float | None, typer.Option(help="Tokens D of one epoch; default 20 a parameter.")] = None,
    epochs: Annotated[float, typer.Option(help="Epochs.")] = 100,
    gpu: Annotated[Gpu, typer.Option(help="Accelerator: its bf16 peak and power.")] = "mi300x",
    gpus: Annotated[float, typer.Option(help="How many.")] = 350_000,
    utilization: Annotated[float, typer.Option("--mfu", help="Share of the peak that does the work.")] = 0.45,
    overhead: Annotated[float, typer.Option(help="All power over the GPUs' own.")] = 1.0,
    price: Annotated[float, typer.Option(help="US dollars for a kWh.")] = 0.09,
    sources: Annotated[bool, typer.Option("--sources", help="Also say where each constant comes from.")] = False,
) -> None:
    """Compute what training a model takes: FLOPs (6 N D), days, power, energy, dollars, carbon, households.

    The defaults are those of the paper's section 1.1.
    """
    from mome.replication.paper.sec1_cost.cost import ACCELERATORS, bill, quantity, training_flops

    data = None if tokens is None else quantity(tokens, "token")
    work = training_flops(quantity(parameters, "parameter"), data, epochs)
    paid = quantity(price, "USD / kWh")
    made = bill(work, quantity(gpus, "gpu"), ACCELERATORS[gpu], utilization, overhead=overhead, price=paid)
    typer.echo("\n".join([*_bill_lines(made), *(_source_lines(gpu) if sources else [])]))


def _bill_lines(made: Bill) -> list[str]:
    rows = [(title, getattr(made, name).to(unit)) for name, (title, unit) in SHOWN.items()]
    return [f"{title:<24}{_number(value.magnitude):>14} {value.units:~P}" for title, value in rows]


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= value < 1e12 else f"{value:.4g}"


def _source_lines(gpu: str) -> list[str]:
    from mome.replication.paper.sec1_cost.cost import ACCELERATORS, INPUTS

    chosen = ACCELERATORS[gpu]
    lines = [f"{chosen.name}: {chosen.peak:~P}, {chosen.power:~P} ({chosen.source})"]
    used = [INPUTS[name] for name in ("flops", "optimal", "grid", "home")]
    return ["", *lines, *(f"{found.name}: {found.value:.6g~P} ({found.source})" for found in used)]

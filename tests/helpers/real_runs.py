"""Made-up rows of the tables of a real model, as `mome table memorizing` and `mome table damage` write them."""

from __future__ import annotations

from typing import Any

import pandas


def run(answers: str, losses: list[list[float]], **changes: Any) -> dict[str, Any]:
    """A run with the loss of each fact in each epoch."""
    columns = list(zip(*losses, strict=True))
    means = [sum(epoch) / len(epoch) for epoch in losses]
    reached = [place for place, mean in enumerate(means, start=1) if mean <= 0.05]
    row = {"backbone": "real-model", "dataset": "truthfulqa", "facts": len(columns), "answers": answers}
    row |= {"method": "lora", "learning_rate": 2e-4, "seed": 0, "epochs": len(losses)}
    row |= {"epochs_to_0.05": reached[0] if reached else None, "final_loss": means[-1], "guess_rate": 0.0}
    row |= {"recall": 1.0, "recalled": "1" * len(columns), "seconds": 10.0, "curve": text(means)}
    return {**row, "summed": text(map(sum, columns)), "last": text(losses[-1]), **changes}


def text(values: Any) -> str:
    """Numbers as the tables write them."""
    return " ".join(f"{value:.5g}" for value in values)


def damage(states: dict[tuple[str, str], dict[str, str]], facts: int = 64) -> pandas.DataFrame:
    """Rows of damage: for each (method, answers) the items of each measure."""
    rows = [
        {"backbone": "real-model", "facts": facts, "method": method, "answers": answers, "seed": 0}
        | {"measure": measure, "items": items}
        for (method, answers), measures in states.items()
        for measure, items in measures.items()
    ]
    return pandas.DataFrame(rows)

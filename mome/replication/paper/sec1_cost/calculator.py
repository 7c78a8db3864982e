"""The calculator of notebook 08: `mome cost` with sliders; a table of bills where no user is there."""

from __future__ import annotations

import ipywidgets
import pandas

from mome.replication.notebook.front_end import shown, table_html
from mome.replication.paper.sec1_cost.cost import ACCELERATORS, Bill, CostError, bill, quantity, training_flops
from mome.replication.paper.sec1_cost.metrics import bills_table

WIDE = {"width": "38em"}
STYLE = {"description_width": "13em"}
TITLES = {
    "parameters": "parameters N",
    "tokens_each": "tokens D / N",
    "epochs": "epochs",
    "gpus": "accelerators",
    "utilization": "share of the peak (MFU)",
    "price": "price (USD/kWh)",
}


def calculator(runs: dict[str, Bill]) -> ipywidgets.VBox | pandas.DataFrame:
    """Sliders with their bill beside those of `runs`; where no user is there, these alone."""
    return shown(lambda: Calculator(runs).view, bills_table(runs))


class Calculator:
    """A slider for each number that a bill follows from, the bill below; `view` is the widget.

    It starts with the paper's section 1.1, as the command `mome cost` does.
    """

    def __init__(self, runs: dict[str, Bill]) -> None:
        self.runs = runs
        self.sliders = {
            "parameters": _slider("parameters", 400e9, 6, 13),
            "tokens_each": _slider("tokens_each", 20, 0, 4),
            "epochs": _slider("epochs", 100, 0, 3),
            "gpus": _slider("gpus", 350_000, 0, 6),
            "utilization": _steps("utilization", 0.45, 1.0),
            "price": _steps("price", 0.09, 0.5),
        }
        names = {each.name: key for key, each in ACCELERATORS.items()}
        self.kind = ipywidgets.Dropdown(options=names, value="mi300x", description="kind", layout=WIDE, style=STYLE)
        self.shown = ipywidgets.HTML()
        for control in (*self.sliders.values(), self.kind):
            control.observe(self._draw, "value")
        self._draw()
        self.view = ipywidgets.VBox([*self.sliders.values(), self.kind, self.shown])

    def bill(self) -> Bill:
        """The bill of what the sliders say; raises CostError."""
        value = {name: slider.value for name, slider in self.sliders.items()}
        size = quantity(value["parameters"], "parameter")
        data = quantity(value["tokens_each"] * value["parameters"], "token")
        work, price = training_flops(size, data, value["epochs"]), quantity(value["price"], "USD / kWh")
        gpus = quantity(value["gpus"], "gpu")
        return bill(work, gpus, ACCELERATORS[self.kind.value], value["utilization"], price=price)

    def _draw(self, _: object = None) -> None:
        try:
            table = bills_table({"what the sliders say": self.bill(), **self.runs})
        except CostError as error:
            self.shown.value = f"<p>{error}</p>"
            return
        self.shown.value = table_html(table.rename_axis("bill").reset_index())


def _slider(name: str, value: float, least: float, most: float) -> ipywidgets.FloatLogSlider:
    """From 10^least to 10^most; a coarse step would round the value where it starts."""
    span = {"min": least, "max": most, "step": 1e-5, "readout_format": ".3g"}
    return ipywidgets.FloatLogSlider(value=value, description=TITLES[name], layout=WIDE, style=STYLE, **span)


def _steps(name: str, value: float, most: float) -> ipywidgets.FloatSlider:
    span = {"min": 0.01, "max": most, "step": 0.01}
    return ipywidgets.FloatSlider(value=value, description=TITLES[name], layout=WIDE, style=STYLE, **span)

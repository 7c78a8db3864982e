"""One run of one notebook: where its tables and its figure go, and the result that it writes at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
from matplotlib.figure import Figure

from mome.files.environment import current_environment
from mome.replication.notebook.parameters import parameters_from
from mome.replication.notebook.results import Claim, Destination, Metric, Result, config_hash, write_result
from mome.replication.notebook.style import save_figure


@dataclass(frozen=True)
class Session:
    """A notebook's run from its first computation to its result; `started` is in seconds of `time.perf_counter`."""

    stem: str
    config: Mapping[str, Any]
    started: float

    @classmethod
    def start(cls, stem: str, namespace: Mapping[str, Any]) -> Session:
        """Start the clock, and check the parameters of notebook `stem` as they stand in `namespace`, its `globals()`.

        Raises:
            ParameterError: a parameter has the wrong type or is out of its range.
        """
        started = time.perf_counter()
        return cls(stem, parameters_from(stem, namespace), started)

    @property
    def destination(self) -> Destination:
        """Where this run writes: its profile's folders in the work folder, which git ignores."""
        return Destination.fresh(self.config["profile"], self.stem)

    def committed_table(self, name: str, profile: str = "tiny") -> Path:
        """The committed table `data/results/<profile>/<stem>_<name>.csv`, which long measurements wrote."""
        return Destination.committed(self.stem, profile).table(name)

    def save_table(self, table: pandas.DataFrame, name: str = "") -> Path:
        """Write a table as `<stem>.csv`, or `<stem>_<name>.csv`, with six significant digits; returns its path."""
        return self.destination.save_table(table, name)

    def save_figure(self, figure: Figure) -> None:
        """Write the figure as `<stem>.png` and `<stem>.pdf`."""
        save_figure(figure, self.destination)

    def write(self, metrics: dict[str, Metric], claims: Sequence[Claim] = ()) -> Path:
        """Write the result: parameters, seconds since the start, machine, metrics and verdicts; returns its path."""
        result = Result(
            notebook=self.stem,
            profile=self.config["profile"],
            config=dict(self.config),
            config_hash=config_hash(self.config),
            seeds=self.config["seeds"],
            seconds=time.perf_counter() - self.started,
            environment=current_environment(),
            metrics=metrics,
            claims=list(claims),
        )
        return write_result(result)

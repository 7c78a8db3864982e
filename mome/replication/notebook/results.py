"""The result contract: measurements of a notebook, with settings and machine, and the file that keeps them.

A notebook writes one JSON file, checked when written and again when read. Every run writes to the fresh place, in the
work folder, which git ignores; what is committed in `data/results/tiny/` and
`data/results/small/` is replaced by `mome reproduce --commit` only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy
import pandas
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from mome.files.atomic import write_atomically
from mome.files.environment import Environment, repository_root, work_folder
from mome.files.hashing import text_sha256
from mome.files.records import Record, Text
from mome.lm.statistics import Interval, interval

Profile = Literal["smoke", "tiny", "small", "paper"]
PROFILES: tuple[str, ...] = get_args(Profile)
COMMITTED_PROFILES = ("tiny", "small")  # the first one is the default, whose figures stand in figures/
Verdict = Literal["reproduced", "mixed", "contradicted", "true by construction", "not testable here"]

# Units of what depends on the machine and on what else runs there, such as "s", "tokens/s" and "ratio of times"
TIMED = re.compile(r"(?<![\w'])(h|min|s|ms|[uµ]s|ns|seconds?|J|kJ|Wh|kWh|MiB|GiB)\b|\bof (times?|memory)\b")

Finite = Annotated[float, Field(allow_inf_nan=False)]
Stem = Annotated[str, Field(pattern=r"^[0-9]{2}_[A-Za-z0-9_]+$")]


class ResultError(ValueError):
    """A result that breaks the contract; the message names the file and the field."""


class Metric(Record):
    """One measured number: `value` in `unit` over `n` observations, with its 95% interval where one was computed.

    The unit says whether the number is `timed`. Therefore a ratio of times has the unit "ratio of times", of processes'
    memory "ratio of memory"; a counted one has "ratio". `runs` is the number of runs (seeds, backbones) behind it;
    a file leaves it out where it is not known.
    """

    value: Finite
    unit: Text
    n: Annotated[int, Field(ge=1)]
    ci95: tuple[Finite, Finite] | None = None
    runs: Annotated[int, Field(ge=1)] | None = None

    @model_serializer(mode="wrap")
    def _without_unknown_runs(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        return {name: value for name, value in written.items() if name != "runs" or value is not None}

    @model_validator(mode="after")
    def _interval_holds_value(self) -> Metric:
        if self.ci95 is None:
            return self
        low, high = self.ci95
        if low > high:
            raise ValueError(f"ci95 {self.ci95} is not ordered (low, high)")
        if not self.covers(self.value):
            raise ValueError(f"ci95 {self.ci95} does not contain the value {self.value}")
        return self

    @property
    def timed(self) -> bool:
        """True for a time, an energy, a process's memory, and ratios of such: shown, never judged or compared."""
        return TIMED.search(self.unit) is not None

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of the 95% interval; without one, twice the value."""
        return self.ci95 or (self.value, self.value)

    def covers(self, value: float) -> bool:
        """True where `value` lies inside the interval (or equals the value, without one), up to rounding."""
        low, high = self.bounds
        inside = low <= value <= high
        return inside or any(math.isclose(value, end, rel_tol=1e-6, abs_tol=1e-9) for end in (low, high))


class Claim(Record):
    """What one run's numbers say of one row of `data/claims.csv`, by the claim's rule (`mome.replication.ledger`)."""

    id: Annotated[str, Field(pattern=r"^C[0-9]{2}$")]
    paper: Text
    measured: Text
    verdict: Verdict
    why: Text


class Result(Record):
    """What one run of one notebook leaves behind.

    `config` holds every parameter of the notebook, `profile`, `seeds` and `backbones` among them; `config_hash` must be
    `config_hash(config)`. `seconds` is wall-clock time.
    """

    notebook: Stem
    profile: Profile
    config: dict[str, Any]
    config_hash: str
    seeds: Annotated[list[int], Field(min_length=1)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    environment: Environment
    metrics: dict[str, Metric]
    claims: list[Claim]

    @model_validator(mode="after")
    def _config_agrees(self) -> Result:
        for name in ("profile", "seeds"):
            if self.config.get(name) != getattr(self, name):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but config says {self.config.get(name)!r}")
        if not isinstance(self.config.get("backbones"), list):
            raise ValueError(f"config must list its backbones, got {self.config.get('backbones')!r}")
        expected = config_hash(self.config)
        if self.config_hash != expected:
            raise ValueError(f"config_hash is {self.config_hash!r}, but config hashes to {expected!r}")
        return self


def config_hash(config: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces) of `config`.

    Raises ResultError for values that JSON cannot hold (also NaN and infinities).
    """
    try:
        text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ResultError(f"config cannot be written as JSON: {error}") from error
    return text_sha256(text, 16)


def result_path(profile: str, stem: str) -> Path:
    """Where a committed result is kept: `data/results/<profile>/<stem>.json`."""
    return repository_root() / "data" / "results" / profile / f"{stem}.json"


def shared_table(name: str, profile: str = "small") -> Path:
    """A committed table that several notebooks read: `data/results/<profile>/<name>.csv`."""
    return repository_root() / "data" / "results" / profile / f"{name}.csv"


@dataclass(frozen=True)
class Destination:
    """Where the files of one notebook's result lie: `results` has the JSON file and the tables, `figures` the plot."""

    stem: str
    results: Path
    figures: Path

    @classmethod
    def fresh(cls, profile: str, stem: str) -> Destination:
        """The place of a run in the work folder: `<profile>/results` and `<profile>/figures`."""
        folder = work_folder() / profile
        return cls(stem, folder / "results", folder / "figures")

    @classmethod
    def committed(cls, stem: str, profile: str = COMMITTED_PROFILES[0]) -> Destination:
        """The place of a committed result: `data/results/<profile>`; `figures`, or `figures/small`, of the project."""
        figures = repository_root() / "figures"
        folder = figures if profile == COMMITTED_PROFILES[0] else figures / profile
        return cls(stem, result_path(profile, stem).parent, folder)

    @property
    def json(self) -> Path:
        """The result file."""
        return self.results / f"{self.stem}.json"

    def table(self, name: str = "") -> Path:
        """The file of a table that belongs to the result: `<stem>.csv`, or `<stem>_<name>.csv`."""
        return self.results / f"{self.stem}{name and '_'}{name}.csv"

    def figure(self, suffix: str) -> Path:
        """The figure's file, such as `<stem>.png`."""
        return self.figures / f"{self.stem}.{suffix.removeprefix('.')}"

    def place(self, name: str) -> Path:
        """Where a file of this name belongs: pictures in `figures`, the rest in `results`."""
        return (self.figures if name.endswith((".png", ".pdf")) else self.results) / name

    def files(self) -> list[Path]:
        """The result's files that are there: its JSON file, its tables and its figures."""
        tables = [self.table(), *self.results.glob(f"{self.stem}_*.csv")]
        found = (self.json, *tables, self.figure("png"), self.figure("pdf"))
        return [path for path in found if path.is_file()]

    def save_table(self, table: pandas.DataFrame, name: str = "") -> Path:
        """Write a table to `self.table(name)`, all or nothing, with six significant digits; returns the file's path."""
        write_atomically(self.table(name), table.to_csv(index=False, float_format="%.6g"))
        return self.table(name)


def write_result(result: Result) -> Path:
    """Write `result` to the fresh place, all or nothing, and return the file's path."""
    path = Destination.fresh(result.profile, result.notebook).json
    write_atomically(path, result_text(result))
    return path


def result_text(result: Result) -> str:
    """The text of a result's file."""
    text = json.dumps(result.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def read_result(path: Path) -> Result:
    """Read and check one result file. Raises ResultError naming the file and the field."""
    try:
        result = Result.model_validate_json(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ResultError(f"{path}: not UTF-8: {error}") from error
    except ValidationError as error:
        raise ResultError(f"{path}: {explain(error)}") from error
    if result.notebook != path.stem:
        raise ResultError(f"{path}: field notebook: is {result.notebook!r}, but the file is named {path.stem!r}")
    return result


def explain(error: ValidationError) -> str:
    """pydantic's errors on one line each: field, complaint, value."""
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "(whole)"
        value = f" (got {str(item['input'])[:80]!r})" if item["loc"] and item["type"] != "missing" else ""
        lines.append(f"field {field}: {item['msg']}{value}")
    return "; ".join(lines)


def metric(values: Sequence[Sequence[float]], unit: str) -> Metric:
    """A result metric from one list of values for each run (seed and backbone), with its bootstrap interval.

    A single number has no interval.
    """
    found: Interval = interval(values)
    ci95 = (found.low, found.high) if found.n > 1 else None
    return Metric(value=found.mean, unit=unit, n=found.n, ci95=ci95, runs=len(values))


def median_metric(values: pandas.Series, unit: str) -> Metric:
    """The median with its 95% bootstrap interval."""
    values = values.dropna()
    median = float(values.median())
    if len(values) < 2 or values.nunique() == 1:
        return Metric(value=median, unit=unit, n=len(values))
    from scipy import stats  # takes a second to import, and most processes draw no interval

    found = stats.bootstrap((values,), numpy.median, n_resamples=2_000, method="percentile", rng=0).confidence_interval
    return Metric(value=median, unit=unit, n=len(values), ci95=(float(found.low), float(found.high)))

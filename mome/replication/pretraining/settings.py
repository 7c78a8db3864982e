"""Settings of pretraining, and the recipes of the shipped backbones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mome.files.records import Amount, Count, Positive, Settings, Share


class CorpusSettings(Settings):
    """How many items of each source a shipped backbone is pretrained on; the shipped known facts are all used.

    `codes` are memorized 8-character codes; `strings` are fresh random strings to repeat, drawn anew every epoch.
    """

    entity_questions: Amount = 1_000
    pararel: Amount = 400
    truth_statements: Amount = 400
    codes: Amount = 300
    strings: Amount = 256


class PretrainingSettings(Settings):
    """Recipe of a shipped backbone (our choice; the paper starts from Llama 3 and Mistral v0.2)."""

    name: str
    architecture: Literal["llama", "mistral"]
    vocabulary: Count = 2_048
    hidden: Count = 256
    layers: Count = 4
    heads: Count = 4
    key_value_heads: Count = 2
    intermediate: Count = 768
    sliding_window: Count | None = None
    context: Count = 512
    epochs: Count = 40
    batch_size: Count = 64
    learning_rate: Positive = 3e-3
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    text_weight: Share = 0.3
    seed: Amount = 0
    corpus: CorpusSettings = CorpusSettings()


PRETRAINING: dict[str, PretrainingSettings] = {
    "tiny-llama": PretrainingSettings(name="tiny-llama", architecture="llama"),
    "tiny-mistral": PretrainingSettings(
        name="tiny-mistral", architecture="mistral", heads=8, intermediate=704, sliding_window=64, seed=1
    ),
    # checks the machinery in seconds; knows nothing
    "smoke": PretrainingSettings(
        name="smoke",
        architecture="llama",
        vocabulary=512,
        hidden=32,
        layers=2,
        heads=2,
        key_value_heads=1,
        intermediate=64,
        epochs=2,
        corpus=CorpusSettings(entity_questions=8, pararel=8, truth_statements=8, codes=4, strings=8),
    ),
}

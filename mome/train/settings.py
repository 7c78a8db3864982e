"""Frozen, validated settings of every run. A wrong field or value is refused with its name before any work starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[list[str], Field(min_length=1)]
Seeds = Annotated[list[Amount], Field(min_length=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown fields, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LoraSettings(Settings):
    """LoRA adapter (paper, appendix A: rank 32). `scale` is alpha / rank; `target_modules` as PEFT reads it.

    The paper does not print alpha, dropout or the adapted modules: scale 2, no dropout and all linear modules are ours.
    """

    rank: Count = 32
    scale: Positive = 2.0
    target_modules: str = "all-linear"
    layers: list[Amount] | None = None


class TuningSettings(Settings):
    """Memory tuning (paper, appendix A: Adafactor, lr 2e-4, 100 epochs, bf16 multiply with f32 accumulation).

    `learning_rate` is fixed: transformers' Adafactor without parameter scaling. `batch_size` counts facts.
    `stop_loss` (nats/token) ends a run once an epoch's mean training loss is below it; None trains every epoch.
    """

    epochs: Count = 100
    batch_size: Count = 16
    learning_rate: Positive = 2e-4
    stop_loss: Positive | None = None
    seed: Amount = 0


class MomeSettings(Settings):
    """A mixture of memory experts as `MomeConfig` takes it (paper, section 7.1: 32 of 1,000,000 experts).

    `layers` are the adapted decoder layers; None: the upper half. The paper does not print the adapted
    modules, the router's layer, or how experts start: all are our choice (LOG.md has the trials).
    """

    num_experts: Count = 65_536
    top_k: Count = 32
    target_modules: Names | str = ["gate_proj"]
    layers: list[Amount] | None = None
    router_layer: Amount = 1
    index: Literal["flat", "product_key"] = "product_key"
    init_scale: Positive = 32.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    storage: str | None = None
    snap: bool = True


class RouterSettings(Settings):
    """Phase 1 of memory tuning: training the router, every expert still untouched (paper, section 7.1).

    `objective` "contrastive" pulls the wordings of a question together and other questions apart (ours); "language"
    trains router and experts on the answers, as the paper says, and drops the experts after it; "none" keeps the
    router as drawn. `batch_size` counts questions; `temperature` is that of the contrastive softmax. Where another
    question may pass for a memorized one, `false_alarms` is the accepted share of such questions (None: no null key).
    """

    objective: Literal["contrastive", "language", "none"] = "contrastive"
    steps: Amount = 300
    batch_size: Count = 256
    learning_rate: Positive = 3e-3
    temperature: Positive = 0.1
    spread: bool = True
    false_alarms: Share | None = 0.002
    seed: Amount = 0


# where many other wordings must pass: 87% of them at 0.2% false alarms instead of 30%, for 134 CPU s instead of 34
# (one thread of an AMD EPYC; chosen on seed 3, LOG.md)
LONG_ROUTER = RouterSettings(steps=3_000, batch_size=128, learning_rate=1e-2)


class MemorySettings(Settings):
    """Phase 2 of memory tuning: backbone and router frozen, the selected experts trained (paper, section 7.1).

    A fact leaves once the loss of its worst token (nats) is under `target_loss`, after `epochs` at the latest; facts
    are trained in groups of `group_size`, `batch_size` rows at a time. `wordings` of each fact are tuned. A fact that
    a final check finds above `repair_loss` is trained again, at most `repairs` times. `prompt_dropout` (largest share
    of prompt tokens hidden from the adapted layers) and `state_noise` (relative to the size of the states that enter
    them) make the experts answer whatever the wording; `typings` variations of typing (`mome.facts.typing_variations`)
    are tuned besides where a fact has one wording. Both ours.
    """

    epochs: Count = 100
    batch_size: Count = 16
    learning_rate: Positive = 5e-3
    optimizer: Literal["adam", "adafactor"] = "adam"
    target_loss: Positive = 0.05
    repair_loss: Positive = 0.1
    repairs: Amount = 5
    group_size: Count = 256
    wordings: Count = 1
    prompt_dropout: Share = 0.0
    state_noise: Annotated[float, Field(ge=0, le=2)] = 0.0
    typings: Amount = 0
    seed: Amount = 0


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

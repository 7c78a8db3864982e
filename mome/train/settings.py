"""Settings of training, immutable and validated: a wrong field or value is refused by name before any work starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mome.files.records import Amount, Count, Positive, Settings, Share

AUGMENTED = {"prompt_dropout": 0.5, "state_noise": 0.4}


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


class RouterSettings(Settings):
    """Phase 1 of memory tuning: training the router, every expert still untouched (paper, section 7.1).

    `objective` "contrastive" pulls the paraphrases of a question together and other questions apart (ours); "language"
    trains router and experts on the answers, as the paper says, and then drops the experts; "none" keeps the random
    router. `batch_size` counts questions; `temperature` is that of the contrastive softmax. `spread` whitens the
    queries after training. `false_alarms` is the accepted false-positive rate: the share of out-of-scope questions that
    may be taken for a memorized one (None: no rejection).

    Raises:
        ValueError: a field that there is not, or a value that cannot work; the message names it.

    Example:
        >>> from mome import RouterSettings
        >>> settings = RouterSettings(steps=100, false_alarms=0.01)
        >>> settings.batch_size
        256
    """

    objective: Literal["contrastive", "language", "none"] = "contrastive"
    steps: Amount = 300
    batch_size: Count = 256
    learning_rate: Positive = 3e-3
    temperature: Positive = 0.1
    spread: bool = True
    false_alarms: Share | None = 0.002
    seed: Amount = 0


# for runs that must recognize many paraphrases: 87% of them at a false-positive rate of 0.2%, instead of 30%, for 134
# CPU s instead of 34 (one thread of an AMD EPYC; chosen on seed 3, LOG.md)
LONG_ROUTER = RouterSettings(steps=3_000, batch_size=128, learning_rate=1e-2)


class MemorySettings(Settings):
    """Phase 2 of memory tuning: backbone and router frozen, the selected experts trained (paper, section 7.1).

    A fact is trained until the loss of its worst token (nats) is under `target_loss`, for at most `epochs` epochs.
    Facts are trained in groups of `group_size`, `batch_size` rows at a time, each in its first `wordings` wordings.
    A fact that a final check finds above `repair_loss` is trained again, at most `repairs` times. `prompt_dropout`
    (largest share of prompt tokens hidden from the adapted layers) and `state_noise` (relative to the size of the
    states that enter them) help the experts to answer other paraphrases. A fact with a single wording is also trained
    in `typings` variations of typing (`mome.facts.typing_variations`). The last three are ours.

    Raises:
        ValueError: a field that there is not, or a value that cannot work; the message names it.

    Example:
        >>> from mome import MemorySettings
        >>> settings = MemorySettings(wordings=3, prompt_dropout=0.5, state_noise=0.4)
        >>> settings.target_loss
        0.05
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

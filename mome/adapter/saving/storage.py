"""Saving and loading an adapter in a folder or on the Hub: PEFT's files, the bank in `bank/`, and a model card."""

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

from mome.adapter.bank import ROWS, Bank
from mome.adapter.guards.one_adapter import SINGLE
from mome.adapter.saving.card import write_card
from mome.adapter.saving.folder import BANK_FOLDER, CONFIG, EDITS_FOLDER, check_backbone, seal_adapter, verify_adapter
from mome.adapter.saving.ownership import refuse_edited
from mome.adapter.saving.replacing import new_adapter, whole_folder
from mome.files.locking import locked_folder
from mome.files.sealed import CheckpointError

HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")
HUB_FILES = ("*.json", "*.safetensors", "facts.jsonl", f"{BANK_FOLDER}/*", f"{EDITS_FOLDER}/*")


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
        """Write configuration, router, model card, the bank in its own folder `bank/`, and the manifest.

        They replace an adapter in the folder as a whole, or not at all; other files in the folder stay.

        Raises:
            AdapterError: the folder holds edits of the adapter there.
            BusyError: another process is writing the folder.
            OSError: the folder cannot be written; the adapter there is untouched.
        """
        options = (safe_serialization, selected_adapters, save_embedding_layers, is_main_process, *args)
        if not is_main_process:
            return super().save_pretrained(save_directory, *options, **kwargs)
        folder = Path(save_directory)
        place = folder if self.active_adapter == "default" else folder / self.active_adapter
        if folder.is_file():
            raise NotADirectoryError(f"{folder}: is a file, not a folder for an adapter")
        refuse_edited(place)
        with locked_folder(folder), new_adapter(folder) as temporary:
            self.write_adapter(temporary, folder.resolve().name, *options, **kwargs)
            name, prompt = self.base_model.settings.base_model_name_or_path, self.base_model.prompt
            seal_adapter(temporary / place.relative_to(folder), self, name, prompt)

    def write_adapter(self, folder: Path, name: str, *args: Any, **kwargs: Any) -> None:
        """Write the files of `save_pretrained` to a folder, one after the other; the model card loads it by `name`."""
        super().save_pretrained(str(folder), *args, **kwargs)
        write_card(folder, name, self.base_model)
        own = folder if self.active_adapter == "default" else folder / self.active_adapter
        self.base_model.save_bank(own / BANK_FOLDER)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The backbone alone while the context lasts, for this call: other threads keep their experts."""
        with self.base_model.state.switched_off():
            yield

    def load_adapter(self, model_id: str | os.PathLike[str], adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Verify the folder, load the bank, then the router, and compare the backbone's weights. Warns of edits.

        Raises:
            CheckpointError: a file is damaged, missing, or does not belong to the others.
            AdapterError: the backbone has other weights than the one the adapter was trained on.
            FileNotFoundError, ValueError: as `MomeModel.load_bank`; or the model has no adapter of this name.
        """
        if adapter_name not in self.peft_config:  # PEFT would refuse it after the bank is replaced
            raise ValueError(f"{SINGLE}, and this one has {self.active_adapter!r}: load into that name")
        given = _adapter_folder(str(model_id), kwargs)
        folder = whole_folder(given)
        if folder != given:
            _refuse_other_settings(given, folder)
            model_id, kwargs = str(folder), {**kwargs, "subfolder": None}
        manifest = verify_adapter(folder)
        check_backbone(folder, manifest, self)
        self.base_model.prompt = self.base_model.prompt or (manifest and manifest["prompt"])
        self.base_model.load_bank(folder / BANK_FOLDER)
        if any((folder / EDITS_FOLDER).glob("*.safetensors")):
            text = f"{folder / EDITS_FOLDER}: these edits are not made here; load with `mome.load_memory`"
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


def _adapter_folder(name: str, options: dict[str, Any]) -> Path:
    """The folder of a saved adapter, downloaded if `name` is a repository on the Hub."""
    subfolder = options.get("subfolder")
    inside = f"{subfolder}/" if subfolder else ""
    if Path(name).is_dir():
        return Path(name) / inside
    hub = {option: options[option] for option in HUB_OPTIONS if option in options}
    return Path(snapshot_download(name, allow_patterns=[inside + pattern for pattern in HUB_FILES], **hub)) / inside


def _refuse_other_settings(given: Path, older: Path) -> None:
    """PEFT has read the configuration in `given`: it must be that of the adapter that is taken in its place."""
    if (given / CONFIG).read_bytes() != (older / CONFIG).read_bytes():
        raise CheckpointError(f"{given}: saving was interrupted; the adapter from before is whole, load {older}")


def fingerprint(bank: Bank, memory: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """32 bytes (uint8) that a router carries; they tell whether rows and anchors are those it was saved with.

    They hold sums of the rows' bits. That tells banks apart; damage is found by the checksums of the files.
    """
    ids = bank.touched()
    digest = hashlib.sha256()
    for values in (*memory.values(), ids, bank.steps[ids]):
        digest.update(values.numpy().tobytes())
    for module in bank.shapes:
        bits = bank.tables[ROWS + module][ids].view(torch.int16)
        digest.update(str(int(bits.sum(dtype=torch.int64))).encode())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)

"""MoME as a PEFT method: a router at one decoder layer chooses experts, the adapted modules above add them.

What happens in a forward pass is in `hooks`; here is what PEFT asks of a method, and how the bank is saved.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from mome.adapter.bank import Bank, with_fresh_optimizers
from mome.adapter.config import METHOD, TASK, MomeConfig
from mome.adapter.guards.received_config import ReceivedConfig
from mome.adapter.hooks import Hooks
from mome.adapter.layer import MomeLinear
from mome.adapter.router import Router
from mome.adapter.saving.storage import PeftModelForCausalLM, fingerprint
from mome.files.checkpoints import read_folder, write_folder
from mome.lm.decoder import decoder_layers

LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


class MomeModel(Hooks):
    """The backbone with a router, a bank of experts, and the hooks that bring them together.

    `bank` holds the experts, `router` chooses, `selection` is this thread's last choice. Any number of threads may ask:
    a choice belongs to the call, and `gate` keeps edits apart from the choosing. In training mode with gradients on,
    the rows of each forward pass are collected in `blocks` for the optimizer, which must empty it; train in one thread.
    """

    prefix = "mome_"
    tuner_layer_cls = MomeLinear
    uses_shared_state = True
    reads_prompt_mask = True
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT's own declaration

    @property
    def settings(self) -> MomeConfig:
        """The adapter's configuration (`config` is the backbone's)."""
        found: Any = self.peft_config[self.active_adapters[0]]
        return found

    @property
    def read_layer(self) -> int:
        """The decoder layer whose input the router reads."""
        return self.settings.read_layer(len(decoder_layers(self.model)))

    @property
    def first_layer(self) -> int:
        """The lowest decoder layer with an adapted module."""
        return min(int(found.group(1)) for found in map(LAYER.search, self.bank.shapes) if found)

    def set_min_score(self, value: float | None) -> None:
        """Set the rejection threshold: questions less similar to every anchor take no expert. None rejects none."""
        if value is not None and math.isnan(value):
            raise ValueError("set_min_score: must be a cosine, or None, got nan")
        self.settings.min_score = self.router.min_score = value

    # --- PEFT ----------------------------------------------------------------------------------------------------

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> MomeConfig:
        found: MomeConfig = peft_config
        if found.target_modules is None:
            found.target_modules = ["gate_proj", "up_proj", "down_proj"]
        return found

    def _pre_injection_hook(self, model: nn.Module, config: Any, adapter_name: str) -> None:
        count = len(decoder_layers(model))
        config.layers_to_transform = config.adapted_layers(count)
        config.router_layer = config.read_layer(count)
        self._start()
        self.shapes: dict[str, tuple[int, int]] = {}

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> bool:
        layer = LAYER.search(key)
        above = layer is not None and int(layer.group(1)) >= peft_config.router_layer
        return above and bool(BaseTuner._check_target_module_exists(peft_config, key))

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if not isinstance(target, nn.Linear):
            raise ValueError(f"MomeConfig: target_modules: {current_key} is a {type(target).__name__}, not a Linear")
        self.shapes[current_key] = (target.in_features, target.out_features)
        self._replace_module(parent, target_name, MomeLinear(target, current_key, self.state), target)

    def _post_injection_hook(self, model: Any, config: Any, adapter_name: str) -> None:
        storage = Path(config.storage) if config.storage else None
        dtype = getattr(torch, config.dtype)
        self.state.bank = Bank(
            config.num_experts, self.shapes, config.rank, dtype, config.seed, storage, config.init_scale
        )
        hidden = model.config.get_text_config().hidden_size  # a model that also reads images has two configurations
        router = Router(config, hidden).to(model.device).requires_grad_(not config.inference_mode)
        self.mome_router = nn.ModuleDict({adapter_name: router})
        self._hook(model, decoder_layers(model)[config.read_layer(len(decoder_layers(model)))])
        self.register_state_dict_pre_hook(self._stamp)
        self.register_load_state_dict_post_hook(self._verify)

    def _enable_adapter_layers(self, enabled: bool = True) -> None:
        super()._enable_adapter_layers(enabled)
        self.state.enabled = enabled

    # --- storage -------------------------------------------------------------------------------------------------

    def save_bank(self, folder: Path) -> None:
        """Write the trained rows, without what optimizers keep for them, and the anchors, verified by a manifest."""
        members = {"rows": self.bank.members(optimizer=False), "anchors": self.router.anchors.tensors()}
        write_folder(folder, members, {"bank": self.bank.arguments(), "vouched": True})

    def load_bank(self, folder: Path) -> None:
        """Take over what `save_bank` wrote; an optimizer of the bank starts anew.

        Raises:
            FileNotFoundError: there is no such folder.
            CheckpointError: the folder is damaged.
            ValueError: it belongs to a bank of another size, other modules or another seed.
        """
        members, state = read_folder(folder)
        for name, value in self.bank.arguments().items():
            if state["bank"].get(name) != value:
                raise ValueError(f"{folder}: {name} is {state['bank'].get(name)!r}, the adapter's is {value!r}")
        self.bank.restore(with_fresh_optimizers(self.bank, members["rows"]))
        self.router.anchors.restore(members["anchors"])

    def _stamp(self, *_: Any) -> None:
        """Before a state is saved: the router carries the fingerprint, as the bank is not part of a state."""
        self.router.fingerprint.copy_(fingerprint(self.bank, self.router.anchors.tensors()))

    def _verify(self, _: nn.Module, keys: Any) -> None:
        """After a state was loaded: refuse a router without its own bank."""
        if missing := [name for name in keys.missing_keys if "mome_router." in name]:
            raise ValueError(f"the state of a MoME adapter lacks {missing[0]}")
        if not torch.equal(self.router.fingerprint.cpu(), fingerprint(self.bank, self.router.anchors.tensors())):
            raise ValueError(
                "the bank's rows are not those this router was saved with: "
                "load both with PeftModel.from_pretrained from the folder that save_pretrained wrote"
            )


def mome_model(model: Any) -> MomeModel | None:
    """The MoME tuner inside a PEFT model, or None.

    Example:
        >>> from mome import load_backbone, mome_model
        >>> mome_model(load_backbone("tiny-llama").model) is None  # no adapter is attached
        True
    """
    found = getattr(model, "base_model", None)
    return found if isinstance(found, MomeModel) else None


PEFT_TYPE_TO_CONFIG_MAPPING[METHOD] = ReceivedConfig  # type: ignore[index]
PEFT_TYPE_TO_TUNER_MAPPING[METHOD] = MomeModel  # type: ignore[index]
PEFT_TYPE_TO_PREFIX_MAPPING[METHOD] = MomeModel.prefix  # type: ignore[index]
MODEL_TYPE_TO_PEFT_MODEL_MAPPING[TASK] = PeftModelForCausalLM

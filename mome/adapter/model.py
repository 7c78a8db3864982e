"""MoME as a PEFT method: a router at one decoder layer chooses experts, the adapted modules above add them.

Experts are chosen once for a question, in the forward pass that reads its prompt, and kept with the KV cache through
decoding. Hooks of the backbone do this, so `generate`, `Trainer` and plain calls behave alike.
"""

from __future__ import annotations

import inspect
import math
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from transformers import Cache

from mome.adapter.bank import Bank, with_fresh_optimizers
from mome.adapter.config import METHOD, TASK, MomeConfig
from mome.adapter.decoding import Readings, read_again, refuse_modes
from mome.adapter.guards.gate import Gate
from mome.adapter.guards.one_adapter import OneAdapter
from mome.adapter.guards.received_config import ReceivedConfig
from mome.adapter.guards.untrained import refuse_untaken, watch
from mome.adapter.layer import MomeLinear
from mome.adapter.router import Router
from mome.adapter.saving.storage import PeftModelForCausalLM, fingerprint
from mome.adapter.selection import Block, Routes, Selection
from mome.adapter.state import State
from mome.files.checkpoints import read_folder, write_folder
from mome.lm.decoder import decoder_layers
from mome.lm.prompts import check_tokens, input_tokens, prompt_tokens

LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
MOST_BLOCKS = 1024  # training passes between two optimizer steps: more is a loop that forgot the optimizer


class MomeModel(OneAdapter):
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
    def bank(self) -> Bank:
        """The table of all experts."""
        return self.state.bank

    @property
    def router(self) -> Router:
        """The module that chooses experts for each question."""
        found: Any = self.mome_router[self.active_adapters[0]]
        return found

    @property
    def selection(self) -> Selection | None:
        """The experts of this thread's last forward pass."""
        return self.state.selection

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
        config.layers_to_transform = config.adapted_layers(len(decoder_layers(model)))
        self.state, self.gate, self.readings = State(), Gate(), Readings()
        self.blocks: list[Block] = []
        watch(self)
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
        router = Router(config, model.config.hidden_size).to(model.device).requires_grad_(not config.inference_mode)
        self.mome_router = nn.ModuleDict({adapter_name: router})
        self.names = tuple(inspect.signature(model.forward).parameters)
        lowest = decoder_layers(model)[config.router_layer]
        self.handles = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            lowest.register_forward_pre_hook(self._choose, with_kwargs=True),
            model.register_forward_hook(self._end, with_kwargs=True, always_call=True),
        ]
        self.register_state_dict_pre_hook(self._stamp)
        self.register_load_state_dict_post_hook(self._verify)

    def _enable_adapter_layers(self, enabled: bool = True) -> None:
        super()._enable_adapter_layers(enabled)
        self.state.enabled = enabled

    # --- one forward pass ----------------------------------------------------------------------------------------

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the backbone: is this a new prompt, or does decoding go on?"""
        marked, call = kwargs.pop("prompt_mask", None), self.state.call  # [Q, T], which the backbone does not know
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        cache = given.get("past_key_values")
        call.prompt, call.cached = None, 0 if cache is None else int(cache.get_seq_length())
        if self.state.working and not self.state.held:
            check_tokens(given, self.model.get_input_embeddings().num_embeddings)
            if call.cached:
                call.selection = self.readings.go_on(cache, *input_tokens(given).shape)
            elif not (call.generating and call.selection is not None):  # decoding without a cache keeps its experts
                call.selection, call.prompt = None, prompt_tokens({**given, "prompt_mask": marked})
            call.running = True
        return args, kwargs

    def _choose(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the router's layer: choose experts for a new prompt."""
        call = self.state.call
        if call.prompt is not None:
            states = args[0] if args else kwargs["hidden_states"]  # [Q, T, D]
            prompt, call.prompt = call.prompt, None
            # without gradients where no optimizer of the experts could use them
            with self.gate.reading(), torch.set_grad_enabled(self.learning):
                queries = self.router.query(states.detach(), prompt)  # [Q, key_size]
                # in training by the keys alone: anchors and rejection are for what has been memorized
                routes = self.router.by_keys(queries) if self.learning else self.router.route(queries)
                call.selection = self.select(routes)

    def _end(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After the backbone, or an error in it: the choice stays with the KV cache."""
        call, chosen = self.state.call, self.state.selection
        call.prompt = None
        if not self.state.held:  # a pass with held experts may run inside another pass, which goes on
            call.running = False
        found = output if isinstance(output, tuple) else [getattr(output, "past_key_values", None)]
        for cache in found:
            if self.state.working and isinstance(cache, Cache) and chosen is not None:
                self.readings.note(cache, chosen, call.cached)

    @property
    def learning(self) -> bool:
        """Whether a forward pass now would read rows that collect gradients."""
        return self.model.training and torch.is_grad_enabled()

    def select(self, routes: Routes) -> Selection:
        """Fetch the rows of the chosen experts; in training they become leaves that collect gradients.

        Raises:
            BankError: an expert that the bank does not have.
            ValueError: gradient checkpointing is on: it would run layers again with the experts of a later pass.
            RuntimeError: 1,024 training passes are waiting for an optimizer that takes their rows.
        """
        if learning := self.learning:
            self._check_learning()
        ids, places = routes.ids.unique(return_inverse=True)  # distinct [n], and where each [Q, K] is among them
        ids, device = ids.cpu(), routes.ids.device
        self.bank.check_ids(ids)
        used = routes.weights.detach().any() and bool((self.bank.steps[ids] > 0).any())
        if not (used or learning):
            return Selection(routes, None, places)
        rows = {name: values.requires_grad_(learning) for name, values in self.bank.read(ids, device).items()}
        block = Block(ids, rows)
        if learning:
            self.blocks.append(block)
        return Selection(routes, block, places)

    def _check_learning(self) -> None:
        if any(getattr(layer, "gradient_checkpointing", False) for layer in decoder_layers(self.model)):
            raise ValueError("gradient_checkpointing is not supported by MoME: switch it off to train")
        refuse_untaken(self)
        if len(self.blocks) >= MOST_BLOCKS:
            raise RuntimeError(
                f"{MOST_BLOCKS} training passes without an optimizer step: "
                "empty `blocks` after each step (MemoryOptimizer does), or use eval() or no_grad()"
            )

    def using(self, selection: Selection | None) -> AbstractContextManager[None]:
        """Run forward passes with these experts, whatever the tokens say; None: without experts. For this call only."""
        return self.state.holding(selection)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The backbone's `generate`, with each question's experts chosen once.

        A KV cache that holds the start of the prompt is emptied and filled anew, as experts are chosen by all of
        the prompt.

        Raises:
            ValueError: a mode of generation that reads the prompt in pieces or drafts tokens elsewhere, or a KV cache
                with only the rest of the prompt.
        """
        configs = (args[1] if len(args) > 1 else None, kwargs.get("generation_config"), self.model.generation_config)
        for options in (kwargs, *(vars(config) for config in configs if config is not None)):
            refuse_modes(options)
        if self.state.working and not self.state.held:
            read_again(args, kwargs)
        with self.state.generating():
            return self.model.generate(*args, **kwargs)

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

"""One forward pass: hooks of the backbone choose a question's experts once and keep them through decoding.

The choice is made in the pass that reads the prompt, and kept with the KV cache. Everything happens in hooks, so that
`generate`, `Trainer` and plain calls behave alike.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedTokenizerBase

from mome.adapter.bank import Bank
from mome.adapter.guards.decoding import Readings, read_again, refuse_modes
from mome.adapter.guards.gate import Gate
from mome.adapter.guards.one_adapter import OneAdapter
from mome.adapter.guards.untrained import refuse_untaken, watch
from mome.adapter.router import Router
from mome.adapter.selection import Block, Routes, Selection
from mome.adapter.state import State
from mome.lm.decoder import decoder_layers
from mome.lm.prompts.form import PromptForm
from mome.lm.prompts.frame import routed_texts
from mome.lm.prompts.marks import check_tokens, input_tokens, prompt_tokens

MOST_BLOCKS = 1024  # training passes between two optimizer steps: more is a loop that forgot the optimizer


class Hooks(OneAdapter):
    """A tuner whose hooks bring router and bank together, in three steps a pass: `_begin`, `_choose`, `_end`.

    `state` holds the choice of each call, `readings` that of each KV cache, `blocks` the rows that wait for an
    optimizer; `gate` keeps edits apart from the choosing. `prompt` is the form in which questions are asked, where it
    is known: it is saved with the adapter. `tokenizer` reads the questions' words if names are checked (`least_names`).
    """

    mome_router: nn.ModuleDict

    def _start(self) -> None:
        """Before modules are adapted: nothing is chosen, and no rows wait."""
        self.state, self.gate, self.readings = State(), Gate(), Readings()
        self.prompt: PromptForm | None = None
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.blocks: list[Block] = []
        watch(self)

    def _hook(self, model: Any, lowest: nn.Module) -> None:
        """Watch the forward passes of the backbone, and of its decoder layer `lowest`, whose input the router reads."""
        self.names = tuple(inspect.signature(model.forward).parameters)
        self.handles = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            lowest.register_forward_pre_hook(self._choose, with_kwargs=True),
            model.register_forward_hook(self._end, with_kwargs=True, always_call=True),
        ]

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
                marked = call.marks(len(input_tokens(given))) if marked is None else marked
                call.selection, call.prompt = None, prompt_tokens({**given, "prompt_mask": marked})
                call.tokens = given.get("input_ids")
            call.running = True
        return args, kwargs

    def _choose(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the router's layer: choose experts for a new prompt."""
        call = self.state.call
        if call.prompt is not None:
            states = args[0] if args else kwargs["hidden_states"]  # [Q, T, D]
            prompt, tokens, call.prompt, call.tokens = call.prompt, call.tokens, None, None
            # without gradients where no optimizer of the experts could use them
            with self.gate.reading(), torch.set_grad_enabled(self.learning):
                queries = self.router.query(states.detach(), prompt)  # [Q, key_size]
                # in training by the keys alone: anchors and rejection are for what has been memorized
                if self.learning:
                    routes = self.router.by_keys(queries)
                else:
                    routes = self.router.route(queries, self._texts(tokens, prompt))
                call.selection = self.select(routes)

    def read_words(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """From now on, read the words of questions with the backbone's `tokenizer`, if names are checked."""
        if self.settings.least_names is not None:
            self.tokenizer = tokenizer

    def _texts(self, tokens: Tensor | None, prompt: Tensor) -> list[str] | None:
        """The questions' texts if names are checked, from the `tokens` [Q, T] that `prompt` [Q, T] marks.

        Raises:
            ValueError: there are no tokens, or no tokenizer to read them.
        """
        if self.settings.least_names is None or not len(self.router.anchors):
            return None
        if tokens is None:
            raise ValueError("inputs_embeds: an adapter with least_names reads the words of a question, give input_ids")
        if self.tokenizer is None:
            raise ValueError(
                "least_names: this adapter compares the words of questions and needs the tokenizer; load it with "
                "mome.load_memory, or call model.base_model.read_words(tokenizer)"
            )
        return routed_texts(self.tokenizer, tokens, prompt)

    def _end(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After the backbone, or an error in it: the choice stays with the KV cache."""
        call, chosen = self.state.call, self.state.selection
        call.prompt = call.tokens = None
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

        `prompt_mask` [questions, tokens] bool marks the prompt tokens by which experts are chosen, by default all.

        Raises:
            ValueError: a mode of generation that reads the prompt in pieces or drafts tokens elsewhere, or a KV cache
                with only the rest of the prompt.
        """
        marked = kwargs.pop("prompt_mask", None)
        configs = (args[1] if len(args) > 1 else None, kwargs.get("generation_config"), self.model.generation_config)
        for options in (kwargs, *(vars(config) for config in configs if config is not None)):
            refuse_modes(options)
        if self.state.working and not self.state.held:
            read_again(args, kwargs)
        with self.state.generating(marked):
            return self.model.generate(*args, **kwargs)

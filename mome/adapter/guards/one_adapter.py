"""PEFT's operations on adapters: a model takes one adapter of memory experts, and what cannot work is refused."""

from __future__ import annotations

from typing import Any, Never

from peft.tuners.tuners_utils import BaseTuner
from torch.utils.hooks import RemovableHandle

from mome.adapter.guards.untrained import watch

UNMERGED = "experts are chosen by the question, so they cannot be merged into the backbone"
SINGLE = "a model takes one MoME adapter"


class OneAdapter(BaseTuner):
    """A tuner with exactly one adapter, which only `unload` takes off. It can be copied and pickled."""

    handles: list[RemovableHandle]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "blocks": []}  # they belong to an optimizer, which stays behind

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        watch(self)

    def merge_adapter(self, *args: Any, **kwargs: Any) -> Never:
        """Refused, as `merge_and_unload` is."""
        raise NotImplementedError(f"merge_adapter: {UNMERGED}")

    def unmerge_adapter(self) -> Never:
        """Refused: there is nothing to take out."""
        raise NotImplementedError(f"unmerge_adapter: {UNMERGED}, and never are")

    def add_weighted_adapter(self, *args: Any, **kwargs: Any) -> Never:
        """Refused: there are no two adapters to combine."""
        raise NotImplementedError(f"add_weighted_adapter: {SINGLE}")

    def delete_adapter(self, adapter_name: str) -> Never:
        """Refused: a tuner without its only adapter is of no use."""
        raise NotImplementedError(
            f"delete_adapter: {SINGLE}, and this is {adapter_name!r}: unload() gives the backbone, "
            "disable_adapter() switches the experts off for a while"
        )

    def generate_batch(self, *args: Any, **kwargs: Any) -> Never:
        """Refused: continuous batching packs many questions into one row."""
        raise ValueError("generate_batch is not supported by MoME: continuous batching mixes questions in one row")

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> Any:
        """The backbone as it was before: its own modules, and no hooks of ours."""
        if merge:
            raise NotImplementedError(f"merge_and_unload: {UNMERGED}; unload() gives the backbone without experts")
        for handle in self.handles:
            handle.remove()
        return super()._unload_and_optionally_merge(False, *args, **kwargs)

    def _check_new_adapter_config(self, config: Any) -> None:
        if len(self.peft_config) > 1:
            raise ValueError(f"{SINGLE}, and this one has one already")

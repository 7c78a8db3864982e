"""The memory that a bank takes while facts are tuned into it, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import redirect_stderr
from io import StringIO
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas
import psutil
import torch

from mome.adapter.bank import IDS, ROWS, STEPS, Bank
from mome.adapter.config import MomeConfig
from mome.adapter.model import MomeModel, mome_model
from mome.facts.fact import Fact
from mome.lm.allocator import keep_freed_memory
from mome.lm.encoding import collate, encode_question
from mome.lm.loading import Backbone
from mome.lm.losses import answer_losses
from mome.replication.notebook.backbones import asked_backbone
from mome.train.attach import attach_mome
from mome.train.experts import memorize_facts
from mome.train.optim import RowAdafactor, RowAdam
from mome.train.progress import grouped
from mome.train.router import train_router
from mome.train.settings import MemorySettings, RouterSettings

IN_MEMORY, MAPPED = "memory", "mapped file"
# a measurement takes seconds to minutes, on the largest banks of a slow disk perhaps an hour
MEASURE_SECONDS = 4 * 3600


def memory_table(
    name: str,
    facts: Sequence[Fact],
    cases: Sequence[tuple[int, str]],
    optimizer: str = "adam",
    epochs: int = 2,
) -> pandas.DataFrame:
    """One row for each (number of experts, storage), each measured in a fresh process; all sizes in bytes.

    `backbone` is the process's peak after the backbone alone has taken all batches forward and backward; `over` is how
    much higher the peak is once the facts are tuned, `private` the part of the resident memory at the end that no file
    backs. `row_bytes` and `optimizer_bytes` are those of the `touched` rows, `virtual` those of all rows without
    optimizer, `router` those of router, index and anchors, `on_disk` what the mapped files take (pages, counters too).
    """
    rows = []
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(1, mp_context=_fresh_processes(), max_tasks_per_child=1) as pool:
        for count, storage in cases:
            future = pool.submit(_measure, name, list(facts), count, optimizer, storage, epochs)
            measured = _result(future, others)
            rows.append({"experts": count, "storage": storage, "optimizer": optimizer, "facts": len(facts), **measured})
    return pandas.DataFrame(rows)


def _fresh_processes() -> BaseContext:
    """Processes that have only imported this module, which takes six CPU seconds: once where a server can fork them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _result(future: Future[dict[str, int]], others: set[BaseProcess]) -> dict[str, int]:
    """The result that the child process sends. A child that does not end is killed, but never one of `others`."""
    try:
        return future.result(timeout=MEASURE_SECONDS)
    except TimeoutError as error:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
        raise TimeoutError(f"a measurement in a process of its own did not end in {MEASURE_SECONDS} s") from error


def _measure(name: str, facts: list[Fact], experts: int, optimizer: str, storage: str, epochs: int) -> dict[str, int]:
    torch.set_num_threads(1)
    keep_freed_memory()
    # the progress bars of this process would break those of the one that waits for it
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        backbone = asked_backbone(name)
        _forward_and_backward(backbone, facts)
        before = peak_memory()
        mome = _tune(backbone, facts, experts, optimizer, folder if storage == MAPPED else None, epochs)
        peak, now = peak_memory(), psutil.Process().memory_info()
        on_disk = sum(path.stat().st_blocks * 512 for path in Path(folder).iterdir())
    sizes = {"backbone": before, "over": peak - before, "private": now.rss - getattr(now, "shared", 0)}
    return {**sizes, "on_disk": on_disk, **bank_bytes(mome)}


def _tune(
    backbone: Backbone, facts: list[Fact], experts: int, optimizer: str, folder: str | None, epochs: int
) -> MomeModel:
    model: Any = attach_mome(backbone, MomeConfig(num_experts=experts, storage=folder), seed=0)
    train_router(model, backbone.tokenizer, facts, RouterSettings(objective="none"))
    settings = MemorySettings.model_validate({"optimizer": optimizer, "epochs": epochs, "repairs": 0})
    memorize_facts(model, backbone.tokenizer, facts, settings, false_alarms=None)
    mome = mome_model(model)
    assert mome is not None
    return mome


def bank_bytes(mome: MomeModel) -> dict[str, int]:
    """`touched` rows, and the bytes of their numbers, of their optimizer's state, of all rows, and of the router."""
    members = {key: values.nbytes for key, values in mome.bank.members().items()}
    rows = sum(size for key, size in members.items() if key.startswith(ROWS))
    own = {key for key in members if key.startswith(ROWS)} | {IDS, STEPS}
    router = [*mome.router.parameters(), *mome.router.buffers()]
    return {
        "touched": len(mome.bank.touched()),
        "row_bytes": rows,
        "optimizer_bytes": sum(size for key, size in members.items() if key not in own),
        "virtual": sum(table.nbytes for key, table in mome.bank.tables.items() if key.startswith(ROWS)),
        "router": sum(tensor.nbytes for tensor in router),
    }


def _forward_and_backward(backbone: Backbone, facts: list[Fact], batch_size: int = 16) -> None:
    """Tuning without an adapter: every batch goes through the whole backbone, and back to its input."""
    rows = [encode_question(backbone.tokenizer, fact.question, fact.answer) for fact in facts]
    embed: Any = backbone.model.get_input_embeddings()
    for numbers in grouped(list(range(len(rows))), batch_size):
        batch = collate([rows[number] for number in numbers], backbone.tokenizer.pad_token_id, backbone.device)
        states = embed(batch.ids).detach().requires_grad_()
        answer_losses(backbone.model, batch, states).sum().backward()


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent had before this process was started
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def optimizer_bytes(shapes: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """What each optimizer keeps for one row and module, in bytes (a row's counter is shared out to its modules)."""
    found = {}
    for kind in (RowAdam, RowAdafactor):
        bank = Bank(1, shapes)
        own = {ROWS + module for module in shapes} | {STEPS}
        kind(bank, learning_rate=0.0)
        found[kind.name] = sum(table.nbytes for key, table in bank.tables.items() if key not in own) / len(shapes)
    return found

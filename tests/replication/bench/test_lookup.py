"""Searches are timed only if they find the best keys; what approximates says how much of them it finds."""

import pandas
import pytest
import torch
from torch.nn import functional

from mome.replication.bench import lookup, searches
from mome.replication.bench.lookup import LookupSizes, lookup_rows
from mome.replication.bench.searches import FaissFlat, FaissHnsw, TimedSearch
from mome.replication.bench.tables import FLAT, PRODUCT, TORCH
from mome.replication.bench.timing import CheckError, Timer

OWN = {FLAT, PRODUCT, TORCH}
SIZES = LookupSizes((64, 400), (1, 5), k=6, size=16, hnsw_experts=64)


@pytest.fixture
def timer() -> Timer:
    return Timer(torch.device("cpu"), rounds=3, seconds=0.0, copied=2**16)


@pytest.fixture
def no_faiss(monkeypatch) -> None:
    monkeypatch.setattr(searches, "find_spec", lambda name: None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_search_is_timed_for_each_size(timer, no_faiss, dtype):
    table = pandas.DataFrame(lookup_rows(timer, SIZES, dtype))
    timed = table[table["note"] == ""]
    assert set(timed["contender"]) == OWN and len(timed) == 3 * 2 * 2
    assert set(zip(timed["experts"], timed["queries"], strict=True)) == {(n, q) for n in (64, 400) for q in (1, 5)}
    assert (timed["median_us"] > 0).all() and set(timed["k"]) == {6} and set(timed["size"]) == {16}
    item = dtype.itemsize
    flat = timed[(timed["contender"] == FLAT) & (timed["experts"] == 400) & (timed["queries"] == 5)]
    assert flat["bytes"].item() == 405 * 16 * item + 5 * 6 * 12


def test_without_faiss_a_line_says_so_and_the_others_are_timed(timer, no_faiss, capsys):
    rows = lookup_rows(timer, LookupSizes((64,), (1,), k=4, size=8), torch.float32)
    assert rows[0]["note"] == "faiss-cpu is not installed (extra 'bench')" and len(rows) == 4
    assert (
        "not measured, faiss-cpu is not installed (extra 'bench'): faiss flat and faiss HNSW" in capsys.readouterr().out
    )


def test_faiss_is_timed_beside_them_and_hnsw_says_what_it_finds(timer, capsys):
    pytest.importorskip("faiss")
    table = pandas.DataFrame(lookup_rows(timer, SIZES, torch.float32))
    timed = table[table["note"] == ""].set_index(["contender", "experts", "queries"])
    assert {name for name, _, _ in timed.index} == OWN | {FaissFlat.name, FaissHnsw.name}
    recall = timed["recall"].dropna()
    assert set(recall.index) == {(FaissHnsw.name, 64, 1), (FaissHnsw.name, 64, 5)} and recall.between(0.5, 1).all()
    assert (timed.loc[recall.index, "bytes"] > 0).all()
    assert "built up to N = 64 only: faiss HNSW, 400" in capsys.readouterr().out


def test_recall_is_the_share_of_the_best_keys_found(timer):
    made = lookup._Lookup(timer, LookupSizes((64,), (2,), k=4, size=8), 64, torch.float32, seed=0)
    best = (made.queries[:2].double() @ made.keys.double().T).topk(4).indices
    worst = (made.queries[:2].double() @ made.keys.double().T).topk(4, largest=False).indices
    search = TimedSearch("half", lambda: (torch.zeros(2, 4), torch.cat([best[:, 2:], worst[:, :2]], dim=1)), 1, 1.0)
    search()
    assert made._recall(search, 2) == 0.5


def test_hnsw_counts_the_keys_it_compares():
    pytest.importorskip("faiss")
    keys = functional.normalize(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    # in a graph of 64 keys with 32 neighbours each, every question meets them all
    moved = FaissHnsw(keys, 4).search(keys[:2], 4).moved
    every = (2 * 64 + 2) * 8 * 4 + 2 * 4 * 12
    assert 0.5 * every < moved < 2 * every


def flat_answer(change):
    """`topk_flat` with its answer changed."""
    right = lookup.topk_flat

    def answer(*given, **options):
        return change(*right(*given, **options))

    return answer


WRONG = {
    "another key": (lambda scores, ids: (scores, (ids + 1) % 64), "scores: off by"),
    "a key twice": (lambda scores, ids: (scores, torch.cat([ids[:, :1], ids[:, :-1]], dim=1)), "not 6 distinct keys"),
    "other scores": (lambda scores, ids: (scores + 1e-3, ids), "scores: off by"),
    "fewer keys": (lambda scores, ids: (scores[:, :-1], ids[:, :-1]), "not 6 distinct keys"),
}


@pytest.mark.parametrize(("change", "complaint"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_answer_is_refused(timer, no_faiss, monkeypatch, change, complaint):
    monkeypatch.setattr(lookup, "topk_flat", flat_answer(change))
    with pytest.raises(CheckError, match=rf"topk_flat, N = 64, Q = 1: {complaint}"):
        lookup_rows(timer, SIZES, torch.float32)


@pytest.mark.parametrize("name", ["topk_flat", "topk_product_key"])
def test_true_scores_of_keys_that_are_not_the_best_are_refused(timer, no_faiss, monkeypatch, name):
    right = getattr(lookup, name)
    monkeypatch.setattr(lookup, name, lambda *given: tuple(part[:, 1:] for part in right(*given[:-1], given[-1] + 1)))
    with pytest.raises(CheckError, match=f"{name}, N = 64, Q = 1: scores of the best keys: off by"):
        lookup_rows(timer, SIZES, torch.float32)


@pytest.mark.gpu
def test_on_a_gpu_the_searches_and_their_graphs_are_right_and_timed():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    timer = Timer(torch.device("cuda", 0), rounds=3, seconds=0.0, copied=2**20)
    table = pandas.DataFrame(lookup_rows(timer, LookupSizes((10_000,), (1, 8)), torch.bfloat16))
    flat = table[table["contender"] == FLAT].groupby(["mode", "cache"]).size()
    assert flat.to_dict() == {(mode, cache): 2 for mode in ("eager", "graph") for cache in ("warm", "cold")}

"""A made-up table of methods."""

from __future__ import annotations

import pandas


def made_table() -> pandas.DataFrame:
    shares = {"recall": 1.0, "wrong": 0.0, "paraphrase_wrong": 0.1, "hallucination": 0.02, "general_accuracy": 1.0}
    costs = {"latency_p50_ms": 2.0, "latency_p95_ms": 3.0, "build_cpu_seconds": 9.0, "once_seconds": 0.0}
    counts = {"asked_n": 100, "absent_n": 100, "general_n": 100}
    rows = [
        {"facts": facts, "method": method, "backbone": "b", "seed": seed, "paraphrase_recall": share, "bytes": size}
        | {**shares, **costs, **counts}
        for facts in (100, 1_000)
        for method, share, size in (("mome", 0.9, 50_000 * facts), ("sql", 0.0, 300 * facts))
        for seed in range(2)
    ]
    return pandas.DataFrame(rows)

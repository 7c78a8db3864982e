"""The order of the runs: what others wait for and what takes longest starts first."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mome.replication.notebook.results import COMMITTED_PROFILES, read_result, result_path
from mome.replication.reproduce.plans import NotebookPlan

# Each takes LoRA runs from the work folder that the other notebook trains, too: at a time both would train them.
TAKES_RUNS_OF = {
    "02_tab1_regularization": "01_fig1_random_vs_real",
    "06_fig5_mome_convergence": "01_fig1_random_vs_real",
}


def longest_first(plans: Sequence[NotebookPlan]) -> list[NotebookPlan]:
    """The plans by the seconds until they and what waits for them are done, by a seed of the committed results.

    So no long one is left for the end.
    """
    seconds = {plan.stem: _seconds_committed(plan) for plan in plans}
    waited = {stem: max((seconds[taker] for taker in _takers(stem, seconds)), default=0.0) for stem in seconds}
    return sorted(plans, key=lambda plan: seconds[plan.stem] + waited[plan.stem], reverse=True)


def first_ready(waiting: Sequence[NotebookPlan], running: Collection[NotebookPlan]) -> NotebookPlan | None:
    """The first of the plans `waiting` whose runs no unfinished notebook trains, too; None where each has to wait."""
    unfinished = {plan.stem for plan in (*waiting, *running)}
    return next((plan for plan in waiting if TAKES_RUNS_OF.get(plan.stem) not in unfinished), None)


def _takers(stem: str, stems: Collection[str]) -> list[str]:
    return [taker for taker, source in TAKES_RUNS_OF.items() if source == stem and taker in stems]


def _seconds_committed(plan: NotebookPlan) -> float:
    profile = plan.profile if plan.profile in COMMITTED_PROFILES else COMMITTED_PROFILES[0]
    path = result_path(profile, plan.stem)
    if not path.is_file():
        return 0.0
    committed = read_result(path)
    return committed.seconds / len(committed.seeds)

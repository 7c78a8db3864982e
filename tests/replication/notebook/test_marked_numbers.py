"""Numbers in the book's prose follow the committed results, and a mark that cannot be followed is refused."""

from pathlib import Path

import pytest

from mome.files.environment import repository_root
from mome.replication.notebook.marked_numbers import MARK, MarkError, with_numbers
from mome.replication.notebook.results import read_result

PAGE = Path("page.md")
RECALL = "tiny 06 mome_recall_random"


@pytest.fixture
def drift() -> float:
    path = repository_root() / "data" / "results" / "tiny" / "06_fig5_mome_convergence.json"
    return read_result(path).metrics["general_accuracy_drift_lora"].value


def test_a_number_becomes_the_committed_one_and_the_rest_stays() -> None:
    page = f"Of 128, 3%<!-- {RECALL} .1% --> came back, in 7<!-- {RECALL}@n ,.0f --> questions."
    assert with_numbers(page, PAGE) == page.replace("3%", "100.0%").replace("7<", "384<")


def test_a_factor_turns_a_share_into_points(drift: float) -> None:
    page = "lost 1<!-- tiny 06 general_accuracy_drift_lora x-100:.1f --> points"
    assert with_numbers(page, PAGE) == page.replace("1<", f"{-100 * drift:.1f}<", 1)


def test_ends_of_the_interval_can_be_quoted() -> None:
    page = f"0.1 to 0.2<!-- {RECALL}@high .2f -->"
    assert with_numbers(page, PAGE).startswith("0.1 to 1.00<!--")


def test_what_was_brought_up_to_date_is_not_changed_again(drift: float) -> None:
    page = with_numbers("-1%<!-- tiny 06 general_accuracy_drift_lora .2% -->", PAGE)
    assert page == with_numbers(page, PAGE) == f"{drift:.2%}<!-- tiny 06 general_accuracy_drift_lora .2% -->"


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("1<!-- tiny 06 no_such_metric .1f -->", "no_such_metric"),
        ("1<!-- tiny 99 mome_recall_random .1f -->", "no result of notebook 99 at tiny"),
        (f"1<!-- {RECALL} .1z -->", "format"),
        (f"1<!-- {RECALL}@middle .1f -->", "needs a number before it"),
        (f"some <!-- {RECALL} .1f -->", "needs a number before it"),
        (f"1<!-- {RECALL} -->", "needs a number before it"),
        ("1<!-- tiny 11 step_flops_1024@low .1f -->", "no interval"),
    ],
)
def test_a_mark_that_cannot_be_followed_is_named_with_its_line(mark: str, reason: str) -> None:
    with pytest.raises(MarkError, match=f"page.md: line 2: .*{reason}"):
        with_numbers(f"first\n{mark} last", PAGE)


def test_the_findings_are_marked() -> None:
    page = (repository_root() / "notebooks" / "book" / "findings.md").read_text("utf-8")
    assert len({found["metric"] for found in MARK.finditer(page)}) > 60

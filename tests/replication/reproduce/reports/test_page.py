"""The report of a run to look at: figures stand side by side in one file, and no value can become markup."""

from base64 import b64encode
from pathlib import Path

from made_up_runs import STEM, comparison, outcome

from mome.files.environment import repository_root
from mome.replication.reproduce.reports.page import write_page
from mome.replication.reproduce.reports.record import run_report


def written(folder: Path, status: str = "ran", error: str = "") -> str:
    done = outcome(folder, status, error)
    figure = done.plan.destination.figure("png")
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"a fresh picture")
    write_page(run_report([done], comparison(), 100.0, 1, 0), "2 inside", folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


def test_the_fresh_figure_stands_beside_the_committed_one(tmp_path: Path) -> None:
    page = written(tmp_path)
    committed = (repository_root() / "figures" / f"{STEM}.png").read_bytes()
    places = [page.index(b64encode(picture).decode()) for picture in (b"a fresh picture", committed)]
    assert places == sorted(places)
    assert "<p>2 inside." in page and "61.5</td>" in page and "1.2</td>" in page
    assert 'src="http' not in page and 'href="http' not in page  # nothing is loaded from elsewhere


def test_an_older_figure_of_a_failed_run_is_not_shown_as_fresh(tmp_path: Path) -> None:
    page = written(tmp_path, "failed", "Traceback: <boom>")
    assert b64encode(b"a fresh picture").decode() not in page and "No figure." in page
    assert "Traceback: &lt;boom&gt;" in page


def test_texts_are_escaped(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "1 of 3 seeds &lt;b&gt;" in page and "<b>" not in page

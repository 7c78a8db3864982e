"""The book's table of claims, README's results, the evidence behind it, and the verdicts in result files."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mome.cli import app
from mome.files.environment import Environment, Hardware
from mome.replication.ledger.table import check, claims_path, claims_table, evidence_path, results_table, rewrite
from mome.replication.notebook.claims import ClaimsError, read_claims
from mome.replication.notebook.results import (
    Claim,
    Destination,
    Metric,
    Result,
    ResultError,
    config_hash,
    read_result,
    result_path,
    write_result,
)

CLAIMS = Path(__file__).parents[3] / "data" / "claims.csv"
FIG1 = "01_fig1_random_vs_real"
LOW, HIGH = 0.008, 0.9
BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks").mkdir()
    for name in ("claims.csv", "findings.csv"):
        shutil.copy(CLAIMS.parent / name, tmp_path / "data" / name)
    (tmp_path / "notebooks" / "book").mkdir()
    claims_path().write_text(f"# Title\n\n{BEGIN}\n{END}\n\nThe end.\n", "utf-8")
    (tmp_path / "README.md").write_text("# Mome\n\n<!-- results:begin -->\n<!-- results:end -->\n", "utf-8")
    return tmp_path


def report(loss: float, profile: str = "tiny", runs: int | None = None, stem: str = FIG1) -> Path:
    """A committed result whose random answers end at this loss, all recalled."""
    config = {"profile": profile, "seeds": [0, 1], "backbones": [f"{profile}-model"]}
    packages = dict.fromkeys(("torch", "transformers", "peft", "numpy", "mome"), "1.0")
    hardware = Hardware(cpu="any", cores=1, memory_gib=1.0, accelerator="none")
    environment = Environment(
        python="3.11", platform="any", commit="unknown", dirty=None, hardware=hardware, threads=1, **packages
    )
    ci95 = (loss * 0.9, loss * 1.1)
    metrics = {
        "lora_final_loss_random": Metric(value=loss, unit="nats/token", n=96, ci95=ci95, runs=runs),
        "lora_recall_random": Metric(value=1.0, unit="share", n=96, runs=runs),
    }
    result = Result(
        notebook=stem,
        profile=profile,
        config=config,
        config_hash=config_hash(config),
        seeds=[0, 1],
        seconds=1.0,
        environment=environment,
        metrics=metrics,
        claims=[Claim(id="C01", paper="p", measured="m", verdict="mixed", why="w")],
    )
    (result_path("tiny", stem).parents[3] / "notebooks" / f"{stem}.ipynb").touch()
    committed = result_path(profile, stem)
    committed.parent.mkdir(parents=True, exist_ok=True)
    return write_result(result).rename(committed)


def row(claim: str) -> str:
    (line,) = [line for line in claims_table().splitlines() if line.startswith(f"| {claim} |")]
    return line


def test_there_is_one_row_for_each_claim_and_without_results_none_is_testable() -> None:
    lines = claims_table().splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [f"| {claim.id}" for claim in read_claims()]
    assert all("| **not testable here** | not measured: " in line for line in lines)


def test_a_row_has_numbers_with_interval_n_and_seeds_verdict_reason_and_notebooks() -> None:
    report(LOW)
    line = row("C01")
    assert "final loss on random answers 0.008 nats/token (0.0072 to 0.0088, n = 96)" in line
    assert "recalled 100.0% (n = 96). tiny-model, 2 seeds | **reproduced** | the loss ends below" in line
    assert line.endswith(f"| [01](../{FIG1}.ipynb) |")


@pytest.mark.parametrize(("runs", "whose"), [(3, "small-model, 3 seeds"), (2, "tiny-model, 2 seeds")])
def test_the_real_model_decides_from_three_seeds_on(runs: int, whose: str) -> None:
    report(HIGH)
    report(LOW, "small", runs)
    assert f"{whose} | **{'reproduced' if runs == 3 else 'contradicted'}**" in row("C01")
    assert ("small-model, 2 seeds so far: reproduced" in row("C01")) == (runs == 2)


def test_the_real_model_decides_with_fewer_seeds_where_nothing_else_was_measured() -> None:
    report(LOW, "small", 1)
    assert "small-model, 1 seed | **reproduced**" in row("C01")


def test_fresh_results_do_not_reach_the_table(root: Path) -> None:
    report(HIGH).rename(root / "fresh.json")
    report(LOW)
    (root / "fresh.json").rename(Destination.fresh("tiny", FIG1).json)
    assert "reproduced" in row("C01") and "contradicted" not in row("C01")


def test_all_four_are_brought_up_to_date_and_the_rest_is_kept(root: Path) -> None:
    path, page, readme = report(LOW), claims_path(), root / "README.md"
    assert check() == [f"{path}: its verdicts are out of date; run `mome claims`"]
    before = read_result(path)
    assert set(rewrite()) == {path, page, readme, evidence_path()}
    assert rewrite() == [] and check() == []
    assert results_table() in readme.read_text("utf-8")
    text = page.read_text("utf-8")
    assert text.startswith(f"# Title\n\n{BEGIN}\n| id |") and text.endswith(f"|\n{END}\n\nThe end.\n")
    after = read_result(path)
    assert after.metrics == before.metrics and after.config == before.config
    assert {claim.id: claim.verdict for claim in after.claims} == {
        "C01": "reproduced", "C02": "not testable here", "C04": "not testable here", "C05": "not testable here"
    }  # fmt: skip


def test_every_number_behind_a_verdict_stands_in_the_evidence(root: Path) -> None:
    report(LOW)
    report(LOW, "small", 3)
    rewrite()
    with evidence_path().open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["claim"] == "C01"]
    assert [(row["profile"], row["metric"], row["seeds"], row["decides"]) for row in rows] == [
        ("small", "lora_final_loss_random", "3", "yes"),
        ("small", "lora_recall_random", "3", "yes"),
        ("tiny", "lora_final_loss_random", "2", "no"),
        ("tiny", "lora_recall_random", "2", "no"),
    ]
    assert (rows[0]["value"], rows[0]["low"], rows[0]["high"], rows[0]["n"]) == ("0.008", "0.0072", "0.0088", "96")


@pytest.mark.parametrize("text", ["nothing", BEGIN, f"{BEGIN}{BEGIN}{END}", f"{END}{BEGIN}"])
@pytest.mark.parametrize("name", ["claims", "results"])
def test_a_page_with_bad_markers_is_refused_and_unchanged(text: str, name: str, root: Path) -> None:
    page = claims_path() if name == "claims" else root / "README.md"
    page.write_text(text.replace("claims:", f"{name}:"), "utf-8")
    before = page.read_text("utf-8")
    with pytest.raises(ClaimsError, match=f"{name}:"):
        rewrite()
    assert page.read_text("utf-8") == before
    assert len(check()) == 1


def test_readme_has_ten_results_whose_numbers_are_the_committed_ones() -> None:
    report(LOW, "small", 3)
    *rows, _, tally = results_table().splitlines()
    assert len(rows) == 2 + 10
    assert "strings 100.0% (n = 96); epochs to 0.05 nats/token not measured" in rows[2]
    assert rows[2].endswith(f"| C01: reproduced | [01](notebooks/{FIG1}.ipynb) |")
    assert all("not measured" in line for line in rows[3:])
    assert tally.startswith(f"{len(read_claims())} claims of the paper: 1 reproduced, ") and "0 contradicted" in tally


def test_a_claim_without_a_rule_is_refused(root: Path) -> None:
    with (root / "data" / "claims.csv").open("a", encoding="utf-8") as file:
        file.write("C99,a,b,c,01_a\n")
    with pytest.raises(ClaimsError, match="no rule for C99"):
        claims_table()


def test_check_names_a_stale_hash_and_a_missing_notebook(root: Path) -> None:
    stale = report(LOW)
    data = json.loads(stale.read_text("utf-8"))
    data["config"]["lr"] = 1.0
    stale.write_text(json.dumps(data), "utf-8")
    lost = report(LOW, stem="02_tab1_b")
    (root / "notebooks" / "02_tab1_b.ipynb").unlink()
    problems = check()
    assert str(stale) in problems[0] and "config_hash" in problems[0]
    assert problems[1] == f"{lost}: there is no notebooks/02_tab1_b.ipynb"
    with pytest.raises(ResultError):
        claims_table()


def test_command_prints_rewrites_and_checks() -> None:
    command = CliRunner()
    before = command.invoke(app, ["claims", "--check"])
    assert before.exit_code == 1
    assert "it does not say what the results say" in before.output
    printed = command.invoke(app, ["claims"])
    assert printed.exit_code == 0
    assert printed.output.strip() == claims_table()
    assert command.invoke(app, ["claims", "--check"]).exit_code == 0


def test_the_committed_pages_say_what_the_committed_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(CLAIMS.parents[1]))
    assert check() == []
    assert "not measured" not in results_table()

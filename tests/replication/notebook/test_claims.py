"""The claims table and its block in the README."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mome.cli import app
from mome.files.environment import Environment, Hardware
from mome.replication.notebook.claims import BEGIN, END, ClaimsError, check, claims_table, read_claims, rewrite_readme
from mome.replication.notebook.results import (
    Claim,
    Destination,
    Result,
    ResultError,
    config_hash,
    result_path,
    write_result,
)

CLAIMS = Path(__file__).parents[3] / "data" / "claims.csv"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks").mkdir()
    shutil.copy(CLAIMS, tmp_path / "data" / "claims.csv")
    (tmp_path / "README.md").write_text(f"# Title\n\n{BEGIN}\n{END}\n\nThe end.\n", "utf-8")
    return tmp_path


def report(stem: str, verdicts: Mapping[str, str], root: Path, seeds: tuple[int, ...] = (0,)) -> Path:
    config = {"profile": "tiny", "seeds": list(seeds), "backbones": ["tiny-llama"]}
    packages = dict.fromkeys(("torch", "transformers", "peft", "numpy", "mome"), "1.0")
    hardware = Hardware(cpu="any", cores=1, memory_gib=1.0, accelerator="none")
    environment = Environment(
        python="3.11", platform="any", commit="unknown", dirty=None, hardware=hardware, threads=1, **packages
    )
    claims = [
        {"id": name, "paper": "p", "measured": f"measured in {stem} | {seeds}", "verdict": verdict, "why": "w"}
        for name, verdict in verdicts.items()
    ]
    result = Result(
        notebook=stem,
        profile="tiny",
        config=config,
        config_hash=config_hash(config),
        seeds=list(seeds),
        seconds=1.0,
        environment=environment,
        metrics={},
        claims=[Claim.model_validate(claim) for claim in claims],
    )
    (root / "notebooks" / f"{stem}.ipynb").touch()
    committed = result_path("tiny", stem)
    committed.parent.mkdir(parents=True, exist_ok=True)
    return write_result(result).rename(committed)


def rows(table: str, claim: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith(f"| {claim} |")]


def test_shipped_list_has_the_22_claims() -> None:
    assert [claim.id for claim in read_claims(CLAIMS)] == [f"C{number:02d}" for number in range(1, 23)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("C1,a,b,c,01_a", ":2: field id"),
        ("C01,a,,c,01_a", ":2: field claim: is empty"),
        ("C01,a,b,c,", ":2: field notebooks: is empty"),
        ("C01,a,b,c,01_a notebook", ":2: field notebooks: .*'notebook'"),
        ("C01,a,b,c", ":2: expected 5 fields"),
        ("C01,a,b,c,01_a\nC01,d,e,f,01_a", ":3: field id: 'C01' stands there twice"),
        ('C01,a,"b"x,c,01_a', ":2: not CSV"),
    ],
)
def test_bad_list_names_file_line_and_field(line: str, complaint: str, root: Path) -> None:
    path = root / "data" / "claims.csv"
    path.write_text(f"id,where,claim,paper_value,notebooks\n{line}\n", "utf-8")
    with pytest.raises(ClaimsError, match=complaint) as caught:
        read_claims()
    assert str(path) in str(caught.value)


def test_list_with_other_columns_is_refused(root: Path) -> None:
    (root / "data" / "claims.csv").write_text("id,claim\nC01,a\n", "utf-8")
    with pytest.raises(ClaimsError, match="columns must be id,where,claim,paper_value,notebooks, got id,claim"):
        read_claims()


def test_claims_without_a_result_read_not_tested_beside_the_notebooks_to_come() -> None:
    lines = claims_table().splitlines()
    planned = [stem for claim in read_claims() for stem in claim.notebooks]
    assert len(lines) == 2 + len(planned) and len(planned) >= 22
    assert all(line.endswith(f"| {stem}, to come |") for line, stem in zip(lines[2:], planned, strict=True))


def test_check_misses_the_verdict_that_a_notebook_owes(root: Path) -> None:
    report("03_fig2_pretraining_loss", {"C05": "partly", "C18": "partly"}, root)
    rewrite_readme(root / "README.md")
    assert check() == [
        f"{root / 'notebooks' / '03_fig2_pretraining_loss.ipynb'}: no committed result has its verdict on C20; "
        "data/claims.csv says that it tests it"
    ]


def test_every_notebook_that_reports_gets_a_row(root: Path) -> None:
    report("01_fig1_a", {"C01": "reproduced", "C02": "partly"}, root)
    report("02_tab1_b", {"C02": "contradicted"}, root)
    table = claims_table()
    assert rows(table, "C01")[0].endswith("| reproduced | [01_fig1_a](notebooks/01_fig1_a.ipynb) |")
    assert ["partly" in row for row in rows(table, "C02")] == [True, False, False]
    assert "not tested" in rows(table, "C02")[1]
    assert "contradicted" in rows(table, "C02")[2]
    assert "measured in 01_fig1_a \\| (0,)" in rows(table, "C01")[0]


def test_fresh_results_do_not_reach_the_table(root: Path) -> None:
    report("01_fig1_a", {"C01": "contradicted"}, root).rename(root / "fresh.json")
    report("01_fig1_a", {"C01": "reproduced"}, root)
    (root / "fresh.json").rename(Destination.fresh("tiny", "01_fig1_a").json)
    assert "reproduced" in rows(claims_table(), "C01")[0]
    assert "contradicted" not in claims_table()


def test_readme_block_is_rewritten_and_the_rest_kept(root: Path) -> None:
    readme = root / "README.md"
    assert check() == [f"{readme}: the claims table is out of date; run `mome claims`"]
    assert rewrite_readme(readme) is True
    assert rewrite_readme(readme) is False
    assert check() == []
    text = readme.read_text("utf-8")
    assert text.startswith(f"# Title\n\n{BEGIN}\n| id |")
    assert text.endswith(f"|\n{END}\n\nThe end.\n")


@pytest.mark.parametrize("text", ["nothing", BEGIN, f"{BEGIN}{BEGIN}{END}", f"{END}{BEGIN}"])
def test_readme_with_bad_markers_is_refused_and_unchanged(text: str, root: Path) -> None:
    readme = root / "README.md"
    readme.write_text(text, "utf-8")
    with pytest.raises(ClaimsError, match="claims:"):
        rewrite_readme(readme)
    assert readme.read_text("utf-8") == text
    assert len(check()) == 1


def test_check_names_stale_hash_unknown_claim_and_missing_notebook(root: Path) -> None:
    stale = report("01_fig1_a", {"C01": "reproduced"}, root)
    data = json.loads(stale.read_text("utf-8"))
    data["config"]["lr"] = 1.0
    stale.write_text(json.dumps(data), "utf-8")
    unknown = report("02_tab1_b", {"C99": "reproduced"}, root)
    (root / "notebooks" / "02_tab1_b.ipynb").unlink()
    problems = check()
    assert len(problems) == 3
    assert str(stale) in problems[0] and "config_hash" in problems[0]
    assert problems[1] == f"{unknown}: there is no notebooks/02_tab1_b.ipynb"
    assert "C99 is not in data/claims.csv" in problems[2]
    with pytest.raises((ClaimsError, ResultError)):
        claims_table()


def test_command_prints_rewrites_and_checks(root: Path) -> None:
    command = CliRunner()
    before = command.invoke(app, ["claims", "--check"])
    assert before.exit_code == 1
    assert "out of date" in before.output
    printed = command.invoke(app, ["claims"])
    assert printed.exit_code == 0
    assert printed.output.strip() == claims_table()
    assert command.invoke(app, ["claims", "--check"]).exit_code == 0


def test_the_committed_readme_says_what_the_committed_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(CLAIMS.parents[1]))
    assert check() == []

"""The list of the paper's claims."""

from pathlib import Path

import pytest

from mome.replication.notebook.claims import ClaimsError, read_claims

CLAIMS = Path(__file__).parents[3] / "data" / "claims.csv"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    (tmp_path / "data").mkdir()
    return tmp_path


def test_shipped_list_has_the_29_claims() -> None:
    assert [claim.id for claim in read_claims(CLAIMS)] == [f"C{number:02d}" for number in range(1, 30)]


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

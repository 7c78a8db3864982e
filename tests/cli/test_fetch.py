"""`mome fetch`: an unknown name is refused with the valid ones, and what is there is not fetched again."""

from typer.testing import CliRunner

from mome.cli.main import app
from mome.lm.backbones.kept import place_of
from mome.lm.backbones.named import SMOLLM2
from mome.lm.loading import Backbone


def test_a_name_that_cannot_be_fetched_is_refused_with_the_valid_ones() -> None:
    result = CliRunner().invoke(app, ["fetch", "tiny-llama"])
    assert result.exit_code == 2
    assert "unknown backbone 'tiny-llama' to fetch; valid: smollm2-135m" in result.output


def test_what_is_there_is_named_with_its_format(smollm2: Backbone) -> None:
    before = (place_of(SMOLLM2.sha256) / "model.safetensors").stat().st_mtime_ns
    result = CliRunner().invoke(app, ["fetch"])
    assert result.exit_code == 0
    assert result.output.startswith("smollm2-135m: ") and "Q4_1 weights" in result.output
    assert (place_of(SMOLLM2.sha256) / "model.safetensors").stat().st_mtime_ns == before

"""What a user can put right is one line and exit code 2; anything else stays an error of the program."""

import pytest
import typer

from mome.cli.errors import refusals
from mome.facts.public_sets import HubError
from mome.files.sealed import CheckpointError
from mome.lm.backbones.errors import BackboneError
from mome.replication.experiments.plan import Recipe


@pytest.mark.parametrize("kind", [ValueError, OSError, FloatingPointError, HubError, CheckpointError, BackboneError])
def test_what_the_user_can_put_right_is_one_line(kind: type[Exception], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit) as ended, refusals():
        raise kind("this is\nwrong")
    assert ended.value.exit_code == 2 and capsys.readouterr().err == "error: this is wrong\n"


def test_settings_that_cannot_be_name_field_value_and_range(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit), refusals():
        Recipe().but(router={"learning_rate": 0.0, "batch_size": "8"})
    wrong = (
        "router.batch_size must be a valid integer, got '8'",
        "router.learning_rate must be greater than 0, got 0.0",
    )
    assert capsys.readouterr().err == f"error: {'; '.join(wrong)}\n"
    with pytest.raises(typer.Exit), refusals():
        Recipe().but(mome={"top_k": 0})
    assert capsys.readouterr().err == "error: MomeConfig: top_k must be a whole number of at least 1, got 0\n"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("x"), BrokenPipeError(), typer.Exit(3)], ids=repr)
def test_anything_else_goes_on_as_it_is(error: Exception, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(type(error)) as raised, refusals():
        raise error
    assert raised.value is error and not capsys.readouterr().err

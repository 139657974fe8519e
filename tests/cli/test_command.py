from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field, model_validator

from cellfeat.cli.app import APP
from cellfeat.cli.command import command


class Settings(BaseModel):
    """Every kind of field that a command takes."""

    preset: Literal["small", "large"] = "small"
    size: int = Field(1, ge=1, description="How much.")
    flag: bool = False
    kinds: list[Literal["a", "b"]] = Field(["a"], description="Of what.")
    limit: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"size": 9, "flag": True, **given} if given.get("preset") == "large" else given


@pytest.fixture
def call():
    """Calls a command that takes `Settings`: (its argument, its own option, the settings)."""
    seen: list[tuple[str, int, Settings]] = []

    @command(settings=f"{__name__}:Settings")
    def make(place: str, settings: Any, own: Annotated[int, typer.Option(help="Mine.")] = 3) -> None:
        """Make it."""
        seen.append((place, own, settings))

    def called(*arguments):
        make.build(APP)(list(arguments), standalone_mode=False)
        return seen.pop()

    return called


def test_options_that_were_not_given_are_left_to_the_model(call):
    assert call("here") == ("here", 3, Settings())
    assert call("here", "--preset", "large")[2] == Settings(preset="large", size=9, flag=True)
    assert call("here", "--preset", "large", "--no-flag", "--size", "2")[2] == Settings(
        preset="large", size=2, flag=False
    )


def test_every_kind_of_field_is_an_option(call):
    arguments = ["--own", "4", "--flag", "--kind", "b", "--kind", "a", "--limit", "0.5"]
    assert call("here", *arguments) == ("here", 4, Settings(flag=True, kinds=["b", "a"], limit=0.5))


def test_help_has_descriptions_choices_and_defaults(capsys, monkeypatch, call):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(IndexError):  # help is shown, the function is not called
        call("--help")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "--size <int> How much. [default: 1]" in lines
    assert "--preset <small|large> [default: small]" in lines
    assert "--kind [a|b] Of what. May be given again. [default: a]" in lines

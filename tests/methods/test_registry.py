from __future__ import annotations

import importlib
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, ConfigDict, Field

from cellfeat.errors import CellfeatError
from cellfeat.methods import build, describe, list_methods, method_names, register, registry

PACKAGE = """
from dataclasses import dataclass
from pydantic import BaseModel, ConfigDict, Field

class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("m", description="Which one.")
    size: int = Field(3, ge=1, description="Side in px.")

@dataclass(frozen=True)
class Foreign:
    config: Config
    Config = Config
    kind = "embedding"
    title = "A method of another package"
    name = "foreign"
    needs = frozenset({"masks"})

    def fit(self, store, rows, folder): ...
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a package with entry points of the group cellfeat.methods."""

    def install(name: str, code: str, **points: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (tmp_path / f"{name}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[cellfeat.methods]", *lines]) + "\n")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    yield install
    monkeypatch.undo()


def test_an_installed_package_brings_a_method(installed):
    installed("foreign", PACKAGE, other="foreign:Foreign")
    assert "other" in method_names()
    assert build("other", {"size": 5}).config.size == 5
    with pytest.raises(CellfeatError, match="other: size: Input should be greater than or equal to 1"):
        build("other", {"size": 0})
    info = describe("other")
    assert (info.title, info.kind, info.needs) == ("A method of another package", "embedding", ("masks",))
    assert [(s.name, s.values, s.default, s.description) for s in info.settings] == [
        ("model", "str", "m", "Which one."),
        ("size", "int ≥ 1", "3", "Side in px."),
    ]


def test_a_package_that_cannot_be_imported_spoils_no_list(tmp_path, installed, caplog):
    installed("broken", "import none_of_this_name", broken_one="broken:Foreign", rcnn="broken:Foreign")
    assert "rcnn" in [info.name for info in list_methods()]  # ours, not the one that the package calls so
    assert "method 'broken-one': broken:Foreign cannot be imported (ModuleNotFoundError" in caplog.text
    with pytest.raises(CellfeatError, match=r"'broken-one': broken:Foreign cannot be imported"):
        build("broken-one")


def test_a_program_registers_a_method_or_a_family():
    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        model: str = Field(description="Which one.")

    @register("mine:<model>")
    @dataclass(frozen=True)
    class Mine:
        config: Settings
        Config = Settings
        kind = "prediction"
        title = "Mine"

        @property
        def needs(self):
            return frozenset({"labels"})

        def fit(self, store, rows, folder, target_rows): ...

    assert build("mine:small").config.model == "small"
    assert describe("mine:<model>").needs == ("labels",)
    with pytest.raises(CellfeatError, match="method 'mine': there is none of this name"):
        build("mine")
    with pytest.raises(CellfeatError, match="method 'rcnn': there is one of this name; choose another"):
        register("rcnn")(Mine)
    with pytest.raises(CellfeatError, match=r"'half': <class .*Settings'> lacks title, kind, needs, Config, fit"):
        register("half")(Settings)


def test_every_method_of_the_package_tells_what_it_is():
    built_in = {name: describe(name) for name in registry._BUILT_IN}
    assert built_in["quantiles"].needs == ("masks",)
    assert built_in["mdd"].needs == ("labels",)
    for info in built_in.values():
        assert info.title
        for setting in info.settings:
            assert setting.description.endswith("."), f"{info.name}: {setting.name}"


@pytest.mark.parametrize("name", ["mdd", "aecfe"])
@pytest.mark.parametrize("preset", [[], {}, None, 7])
def test_a_preset_of_another_type_is_one_line(name, preset):
    with pytest.raises(CellfeatError, match=rf"{name}: preset: Input should be"):
        build(name, {"preset": preset})

"""The settings of a comparison, as its YAML holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cellfeat.core.files import slug
from cellfeat.core.settings import read_yaml
from cellfeat.data.alignment import Alignment
from cellfeat.evaluation.config import EvaluationConfig


class Entry(BaseModel):
    """One method to compare.

    Attributes:
        method: Its name, see `cellfeat.methods.method_names`.
        config: Settings that differ from its defaults. With a `seed` it is run once, else once a run if it is random.
        label: What it is called in tables and folders; default: its name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    config: dict[str, Any] = Field(default_factory=dict)
    label: str = ""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"method": given} if isinstance(given, str) else given

    @property
    def title(self) -> str:
        """Label or name."""
        return self.label or self.method


class CompareConfig(BaseModel):
    """One comparison. Paths are relative to the working directory.

    Attributes:
        store: The feature store.
        output: Folder of all that is made.
        methods: What to compare: names, or entries with settings.
        align: Alignments that every embedding is also scored under.
        anchor: Domain that these align to; None takes Matek-19 (its name, or that of `same_site`) where it is there.
        adapt: Domain that a method which adapts sees without labels: all its cells, or its train part where it is also
            tested. None: the train part of the tested domain, one fit for each.
        split: A split.csv to keep to; None splits the store.
        labels: Labels to learn from and to score by in place of the store's: a table cell_id,label of `annotate`.
        evaluation: How to score, by protocols `paper` and `shared`. Its `runs` is also the number of seeds of a random
            method.
        same_site: Our domain's name to a publication's where both come from the same place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: Path
    output: Path
    methods: list[Entry] = Field(min_length=1)
    align: list[Alignment] = Field(default=["coral", "combat"])
    anchor: str | None = None
    adapt: str | None = None
    split: Path | None = None
    labels: Path | None = None
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig(protocols=["paper", "shared"]))
    same_site: dict[str, str] = Field(default_factory=dict)

    @field_validator("methods")
    @classmethod
    def _told_apart(cls, methods: list[Entry]) -> list[Entry]:
        titles = [slug(entry.title) for entry in methods]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"{title} occurs twice; give each its own label")
        return methods

    @field_validator("evaluation", mode="before")
    @classmethod
    def _one_split(cls, given: Any) -> Any:
        if isinstance(given, dict):
            given = {"protocols": ["paper", "shared"], **given}
            if isinstance(given["protocols"], list) and "code" in given["protocols"]:
                raise ValueError("protocol code makes a split of its own; methods are compared under paper and shared")
        return given


def load_compare(path: str | Path) -> CompareConfig:
    """Read and check a comparison's YAML.

    Raises:
        CellfeatError: No such file, not YAML, an unknown key, or a value that does not fit: named by its place.
    """
    return read_yaml(CompareConfig, path, "comparison")

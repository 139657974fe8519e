"""The YAML of a pipeline: light, because its schema and its check need no network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.core.settings import read_yaml
from cellfeat.detection.config import BUILT_IN_CONFIG
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.workflows.dump_config import DumpConfig


class DetectorConfig(BaseModel):
    """The detector: trained on `train`, or taken as it is: from `weights`, else the one built in."""

    model_config = ConfigDict(extra="forbid")

    config: str = Field(
        BUILT_IN_CONFIG, description="A detector config: a path, or the name of one that comes with cellfeat."
    )
    overrides: list[str] = Field(default_factory=list, description="Changes of its keys: KEY VALUE KEY VALUE ...")
    train: list[str] = Field(default_factory=list, description="Datasets with masks to learn from.")
    test: list[str] = Field(default_factory=list, description="Datasets to evaluate on.")
    weights: str | None = Field(None, description="A trained checkpoint; then nothing is trained.")
    engine: Literal["auto", "detectron2", "torchvision"] = Field(
        "auto", description="'auto' takes Detectron2 where it can be imported."
    )

    @model_validator(mode="after")
    def _something_to_do(self) -> DetectorConfig:
        built_in = Path(self.config).name == BUILT_IN_CONFIG
        if (self.train and self.weights) or not (self.train or self.weights or built_in):
            raise ValueError("give either train (datasets to learn from) or weights (a trained checkpoint)")
        return self


class DumpStage(DumpConfig):
    """The images to take cells from, and what to keep of them."""

    datasets: list[str] = Field(min_length=1, description="Datasets of the catalogue.")


class PipelineConfig(BaseModel):
    """One run. Paths are relative to the working directory, datasets are names of the catalogue."""

    model_config = ConfigDict(extra="forbid")

    output: Path = Field(description="Folder of all that is made.")
    data_root: Path | None = Field(
        None, description="The folder of the datasets; default: CELLFEAT_DATASETS, or datasets/."
    )
    detector: DetectorConfig = Field(
        default_factory=lambda: DetectorConfig.model_validate({}),
        description="The detector: trained, taken as it is, or left out for the one built in.",
    )
    dump: DumpStage = Field(description="The images to take cells from, and what to keep of them.")
    autoencoder: AutoencoderConfig = Field(
        default_factory=lambda: AutoencoderConfig.model_validate({}),
        description="AE-CFE, trained on the cells that were found.",
    )
    without_alignment: bool = Field(
        False,
        description=(
            "Also train the autoencoder without alignment and nothing else changed, for the two maps of the AE-CFE "
            "paper's figure 4; its training takes twice as long."
        ),
    )
    evaluation: EvaluationConfig = Field(
        default_factory=lambda: EvaluationConfig.model_validate({}), description="How the embeddings are scored."
    )


def load_pipeline(path: str | Path) -> PipelineConfig:
    """Read and check a pipeline's YAML.

    Raises:
        CellfeatError: No such file, not YAML, an unknown key, or a value that does not fit: named by its place.
    """
    return read_yaml(PipelineConfig, path, "pipeline")

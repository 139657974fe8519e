"""The settings of a dump: light, because the command line makes its options of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class DumpConfig(BaseModel):
    """What a dump keeps of each image."""

    model_config = ConfigDict(extra="forbid")

    pool: Literal["mask", "box", "box_head"] = Field(
        "mask", description="ROI features: mask (256×14×14), box (256×7×7) or box_head (1024)."
    )
    select: Literal["center", "score", "all"] = Field(
        "center", description="Cells to keep of an image: the central one, the best scored one, or all."
    )
    fields: Literal["tile", "whole"] = Field(
        "tile",
        description="Pictures that are too large for the detector: cut them into tiles and keep all cells, or shrink "
        "them like pictures of one cell.",
    )
    score_threshold: float = Field(0.3, ge=0, le=1, description="Lowest score of a cell.")
    crop_size: int = Field(128, ge=16, le=1024, description="Side of crops and masks, px.")
    crop_margin: float = Field(0.1, ge=0, le=1, description="Margin around the box, fraction of its longer side.")
    feature_dtype: Literal["float16", "float32"] = Field("float16", description="Of the stored features.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the network; bf16 is faster, a little coarser.")
    batch_size: int = Field(8, ge=1, description="Images at once.")
    limit: int | None = Field(None, ge=1, description="Only the first so many images of each dataset.")

    def identity(self) -> dict[str, Any]:
        """What the rows depend on; `fields` only where it is not the default, as in stores made before it was there."""
        left_out = {"batch_size"} | ({"fields"} if self.fields == "tile" else set())
        return self.model_dump(exclude=left_out)

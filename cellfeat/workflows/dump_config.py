"""The settings of a dump: light, because the command line makes its options of them."""

from __future__ import annotations

from typing import Literal

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
    score_threshold: float = Field(0.3, ge=0, le=1, description="Lowest score of a cell.")
    crop_size: int = Field(128, ge=16, le=1024, description="Side of crops and masks, px.")
    crop_margin: float = Field(0.1, ge=0, le=1, description="Margin around the box, fraction of its longer side.")
    feature_dtype: Literal["float16", "float32"] = Field("float16", description="Of the stored features.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the network; bf16 is faster, a little coarser.")
    batch_size: int = Field(8, ge=1, description="Images at once.")
    limit: int | None = Field(None, ge=1, description="Only the first so many images of each dataset.")

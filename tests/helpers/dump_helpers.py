"""A dump small enough for a test, and whether two dumps made the same store."""

import numpy as np
import pandas as pd

from cellfeat.detection.config import config_dir
from cellfeat.workflows.dump_config import DumpConfig

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"


def options(**values):
    return DumpConfig(**{"score_threshold": 0.0, "crop_size": 32, "batch_size": 4, **values})


def equal(one, other):
    pd.testing.assert_frame_equal(one.table(), other.table())
    pd.testing.assert_frame_equal(one.images(), other.images())
    for name in ("features", "crops", "masks", "boxes", "scores"):
        np.testing.assert_array_equal(one.read(name, slice(None)), other.read(name, slice(None)))

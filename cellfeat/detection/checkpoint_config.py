"""The config that a checkpoint was trained with: config.yaml in its own folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from cellfeat.core.run_record import differences
from cellfeat.detection.config import BUILT_IN_CONFIG, find_config, load_config
from cellfeat.detection.run_folder import CONFIG, lasting

# Of the training alone: where it wrote, which file it started from and with which new heads.
TRAINING_ALONE = ("OUTPUT_DIR", "./output", "MODEL.WEIGHTS_SHA256", "", "MODEL.NEW_HEADS", "()")

log = logging.getLogger(__name__)


def config_of_checkpoint(config_file: str | Path | None, overrides: Sequence[str] = ()) -> CfgNode:
    """The config with which to run the checkpoint that `MODEL.WEIGHTS` among the overrides names.

    Args:
        config_file: The config that was asked for. None: the checkpoint's own, and where there is none beside it, that
            of the paper's detector; without a checkpoint that of the built-in detector. Where both are there and the
            network or its images differ, a warning says so.
        overrides: `KEY VALUE KEY VALUE ...`; they count whichever file is read.

    Raises:
        CellfeatError: As `load_config`.
    """
    weights = dict(zip(overrides[::2], overrides[1::2], strict=False)).get("MODEL.WEIGHTS", "")
    if config_file is None and not weights:
        return load_config(find_config(BUILT_IN_CONFIG), list(overrides))
    own = Path(weights).parent / CONFIG
    if not Path(weights).is_file() or not own.is_file():
        return load_config(find_config(config_file), list(overrides))
    if config_file is None:
        cfg = load_config(own, [*TRAINING_ALONE, *overrides])
        log.info("%s: read, as the config of %s", own, weights)
        return cfg
    cfg = load_config(find_config(config_file), list(overrides))
    if changed := list(differences(lasting(load_config(own)), lasting(cfg))):
        key, before, now = changed[0]
        more = f" and {len(changed) - 1} more keys differ" if len(changed) > 1 else ""
        log.warning("%s was trained with %s = %r, but %s says %r%s", weights, key, before, config_file, now, more)
    return cfg

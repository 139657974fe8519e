"""Public name for scripts: `load_config` reads a detector's YAML (see `cellfeat.detection.config`)."""

from cellfeat.detection.config import load_config

__all__ = ["load_config"]

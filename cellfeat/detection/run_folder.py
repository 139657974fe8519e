"""What a training run leaves in OUTPUT_DIR, under either engine."""

from __future__ import annotations

import json
from pathlib import Path

from fvcore.common.config import CfgNode

from cellfeat.core.files import write_text
from cellfeat.detection.coco_evaluation import Scores


def cut_metrics(path: Path, iteration: int) -> None:
    """Drop from metrics.json what a killed run logged after its last checkpoint: it will be logged again."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["iteration"] < iteration]
        write_text(path, "".join(f"{line}\n" for line in lines))


def mean_ap(scores: dict[str, Scores]) -> float:
    """What the best checkpoint is best in: mask AP, or box AP without masks, averaged over the test sets."""
    return sum(kinds.get("segm", kinds["bbox"])["AP"] for kinds in scores.values()) / len(scores)


def write_config(cfg: CfgNode) -> None:
    """Write config.yaml, which `load_config` reads whichever engine trained."""
    write_text(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())

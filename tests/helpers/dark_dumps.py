"""A dump that needs no network, and whose processes may die: Ray's workers import it."""

import os
import signal
import time
from functools import cached_property
from pathlib import Path

import numpy as np
from dark_spots import DarkSpots
from dump_helpers import CONFIG, options
from PIL import Image

from cellfeat.data.paths import open_paths
from cellfeat.detection.config import load_config
from cellfeat.workflows.dumper import Dumper

KILL = "kill"  # file beside the pictures: whoever finds it while it works removes it and is killed


class DarkDumper(Dumper):
    """Finds dark spots, slowly."""

    @cached_property
    def detector(self):
        return Mortal(self.records[0].path.parents[1] / KILL)


class Mortal(DarkSpots):
    def __init__(self, file):
        super().__init__()
        self.file = file

    def detect(self, images, um_per_px=None):
        time.sleep(0.1)
        if self.calls > 2 and self.file.exists():
            self.file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(images, um_per_px)


def dark_dumper(folder: Path, count: int = 32) -> Dumper:
    """Pictures of one dark square each, written into a new folder, and their dump in batches of two."""
    (folder / "site").mkdir(parents=True)
    for k in range(count):
        picture = np.full((60, 60, 3), 255, np.uint8)
        picture[20 : 30 + k % 9, 20:40] = k
        Image.fromarray(picture).save(folder / "site" / f"{k:02d}.png")
    (folder / "weights.pth").touch()
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(folder / "weights.pth")])
    return DarkDumper(cfg, open_paths([str(folder / "site")]), options(batch_size=2))

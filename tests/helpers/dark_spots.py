"""A detector that needs no training, and fields of cells that it finds."""

import numpy as np
from scipy import ndimage

from cellfeat.detection.config import find_config, load_config
from cellfeat.detection.structures import CellInstances


class DarkSpots:
    """A detector of dark connected regions, which sees parts of the cells that a tile cuts, as any detector does.

    With `short` it shows it to itself as a network does: its short edge becomes `short` px, and regions are seen whose
    sides are then `seen[0]` to `seen[1]` px.
    """

    name = "dark-spots"
    cfg = load_config(find_config("wbc_builtin.yaml"))
    feature_shape = (1, 1, 1)
    max_detections = 1000

    def __init__(self, short=0, seen=(0, np.inf)):
        self.short, self.seen = short, seen
        self.calls = 0

    def detect(self, images, um_per_px=None):
        self.calls += len(images)
        return [self.cells(image) for image in images]

    def cells(self, image):
        labels, _ = ndimage.label(image[..., 0] < 128)
        spots = ndimage.find_objects(labels)
        boxes = np.float32([(x.start, y.start, x.stop, y.stop) for y, x in spots]).reshape(-1, 4)
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) * (self.short / min(image.shape[:2]))
        kept = np.flatnonzero((sides >= self.seen[0]) & (sides <= self.seen[1]))[: self.max_detections]
        masks = labels == kept[:, None, None] + 1
        n = len(kept)
        return CellInstances(image.shape[:2], boxes[kept], np.full(n, 0.9, np.float32), masks, np.ones((n, 1, 1, 1)))


def disc_field(seed=0, count=150, size=(540, 700), radii=(6, 16)):
    """A field of discs that do not touch, RGB uint8, and their boxes (XYXY, px), sorted."""
    rng, field, boxes = np.random.default_rng(seed), np.full((*size, 3), 255, np.uint8), []
    while len(boxes) < count:
        r = int(rng.integers(*radii))
        x, y = (int(rng.integers(r + 1, length - r - 1)) for length in size[::-1])
        around = field[y - r - 1 : y + r + 2, x - r - 1 : x + r + 2]
        if around.min() == 255:
            across = np.arange(-r - 1, r + 2) ** 2
            around[across[:, None] + across <= r * r] = 40
            boxes.append((x - r, y - r, x + r + 1, y + r + 1))
    return field, sorted(boxes)

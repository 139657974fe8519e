"""Pictures of strangers, decoded in a child."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cellfeat.data.foreign_image import read_foreign_rgb
from cellfeat.data.images import UnreadableImage


def bomb(side: int) -> bytes:
    """A PNG of some kilobytes that decodes to a picture of side × side px."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side + 1) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_good_picture_comes_through_and_others_say_why(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "good.png")
    np.testing.assert_array_equal(read_foreign_rgb(tmp_path / "good.png", 10_000), rgb)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    (tmp_path / "large.png").write_bytes(bomb(5000))
    for name, why in {"cut.png": "truncated|damaged", "large.png": "5000 x 5000 px, more than 10,000"}.items():
        with pytest.raises(UnreadableImage, match=why):
            read_foreign_rgb(tmp_path / name, 10_000)

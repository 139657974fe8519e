"""Pictures that strangers send: decoded in a child process, with limits on its memory and time.

Decoders are large programs that were made for files that are what they say. `read_rgb` refuses what it can tell from a
header; what a forged file does to a decoder ends the child and not this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cellfeat.core.child import ended, limit_memory, limit_time, start_child
from cellfeat.data.images import UnreadableImage, read_rgb

MEMORY = 2 << 30  # bytes of address space of the child: a JPEG of 64 million pixels takes 0.6 GB, libraries 0.4 GB
SECONDS = 20  # of processor time; a JPEG of 64 million pixels takes 2


def read_foreign_rgb(path: Path, max_pixels: int, seconds: int = SECONDS) -> np.ndarray:
    """`read_rgb` of a file that nobody vouches for.

    Args:
        path: The file.
        max_pixels: A larger picture is refused from its header.
        seconds: Processor time of the child, and twice as much by the clock.

    Returns:
        (h, w, 3) uint8, RGB.

    Raises:
        UnreadableImage: As `read_rgb`; or decoding it took too much time or memory, or ended the child.
        CellfeatError: No child can be started.
    """
    child = start_child(__name__, ("numpy", "PIL", "cv2"))
    asked = {"path": os.fspath(path.absolute()), "max_pixels": max_pixels, "seconds": seconds}
    try:
        said, _ = child.communicate(json.dumps(asked).encode(), timeout=10 + 2 * seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise UnreadableImage(path, "takes too long to decode") from None
    head, _, pixels = said.partition(b"\n")
    try:
        answer = json.loads(head)
        if "reason" in answer:
            raise UnreadableImage(path, str(answer["reason"]))
        return np.frombuffer(pixels, np.uint8).reshape(*answer["shape"]).copy()
    except (ValueError, KeyError, TypeError):  # the child did not live to answer
        raise UnreadableImage(path, f"forged or damaged (decoding it ended {ended(child.returncode)})") from None


def main() -> None:
    """The child: decode the picture that standard input names, and write its shape and its pixels."""
    asked = json.loads(sys.stdin.buffer.read())
    limit_memory(MEMORY)
    limit_time(asked["seconds"])
    try:
        rgb = read_rgb(asked["path"], asked["max_pixels"])
    except UnreadableImage as error:
        sys.stdout.buffer.write(json.dumps({"reason": error.reason}).encode() + b"\n")
    else:
        sys.stdout.buffer.write(json.dumps({"shape": rgb.shape}).encode() + b"\n")
        sys.stdout.buffer.write(np.ascontiguousarray(rgb).data)
    sys.stdout.buffer.flush()

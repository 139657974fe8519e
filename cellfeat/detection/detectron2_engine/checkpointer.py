"""Detectron2's checkpointer with cellfeat's promises about files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from cellfeat.core.files import write_text
from cellfeat.core.tensors import read_torch, save_checkpoint
from cellfeat.detection.run_folder import MARKER


class Checkpointer(DetectionCheckpointer):
    """Detectron2's, but it runs no code of a file, and a kill or a full disk leaves the checkpoints as they were."""

    def save(self, name: str, **kwargs: Any) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        save_checkpoint(Path(self.save_dir) / f"{name}.pth", {"model": self.model.state_dict(), **states, **kwargs})
        self.tag_last_checkpoint(f"{name}.pth")

    def _torch_load(self, f: str) -> Any:
        return read_torch(Path(f))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        # Detectron2 truncates and writes: killed in between, the run could not go on.
        write_text(Path(self.save_dir) / MARKER, last_filename_basename)

"""Which mask belongs to which image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from cellfeat.data.annotations.formats import label_files
from cellfeat.data.file_names import canonical
from cellfeat.data.listing import glob_matcher


class MaskFiles:
    """The masks of a folder. Where no file has the exact name, case and Unicode form do not count if that is clear.

    Args:
        folder: The folder; masks lie in the same sub-folders as the images.
        pattern: Name of a mask, see `mask_name`.
        images: The dataset's images, path below the image root to file; they may lie in the same folder.
    """

    def __init__(self, folder: Path, pattern: str, images: Mapping[str, Path]) -> None:
        self._folder, self._pattern, self._images = folder, pattern, images

    def place(self, key: str) -> Path:
        """Where the mask of an image would be."""
        return self._folder / mask_name(key, self._pattern)

    def find(self, key: str) -> Path | None:
        """The mask of an image, None where it has none."""
        path = self.place(key)
        if path.is_file():
            return path
        found = self._by_folded_name.get(_folded(mask_name(key, self._pattern)), [])
        return found[0] if len(found) == 1 else None

    def without_image(self) -> list[str]:
        """Files that are named as masks and belong to no image, as paths below the folder."""
        used: Collection[Path | None] = {self.find(key) for key in self._images} | set(self._images.values())
        is_mask = glob_matcher(f"**/{self._pattern.replace('{stem}', '*').replace('{number}', '*')}")
        names = {path: path.relative_to(self._folder).as_posix() for path in self._files if path not in used}
        return [name for name in names.values() if is_mask(name)]

    @cached_property
    def _files(self) -> list[Path]:
        return label_files(self._folder, (PurePosixPath(self._pattern).suffix.lower(),))

    @cached_property
    def _by_folded_name(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in self._files:
            found[_folded(path.relative_to(self._folder).as_posix())].append(path)
        return dict(found)


def mask_name(key: str, pattern: str) -> str:
    """Path of the mask of an image: `{stem}` is its name without suffix, `{number}` the digits at the stem's end."""
    path = PurePosixPath(key)
    digits = path.stem[len(path.stem.rstrip("0123456789")) :]
    name = pattern.replace("{stem}", path.stem).replace("{number}", digits)
    return (path.parent / name).as_posix()


def _folded(name: str) -> str:
    return canonical(name).casefold()

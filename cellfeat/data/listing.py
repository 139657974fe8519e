"""Which files below a folder are images: hidden, cache and thumbnail files of every system are none."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".btf", ".bmp", ".webp"),
        *(".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"),  # `cellfeat.data.slides`
    }
)
"""What is read, whatever the case."""

# What systems, cameras and programs leave beside images; in lower case. Names that begin with a dot count too.
SYSTEM_NAMES = frozenset(
    {
        *("$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db", "ehthumbs.db"),  # Windows
        *("ehthumbs_vista.db", "desktop.ini"),
        *("__macosx", "icon\r", "network trash folder", "temporary items", "resource.frk"),  # macOS
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@recycle", "@recently-snapshot"),  # Synology, QNAP
        *("lost+found", "lost.dir", "~snapshot", "found.000"),  # Linux, Android, NetApp, Windows' chkdsk
        *("__pycache__", "zbthumbnail.info", "picasa.ini", "_vti_cnf", "cellfeat-preview.png"),  # programs
    }
)
SYSTEM_PREFIXES = (".", "~$", "synophoto_thumb", "synofile_thumb")
FEATURE_STORE = {"manifest.json", "shards"}  # what a folder of cellfeat's own holds
HIDDEN_ON_WINDOWS = 0x2  # FILE_ATTRIBUTE_HIDDEN

# Pictures that are not read, by suffix or by their first bytes.
OTHER_PICTURES = frozenset(
    {
        *(".gif", ".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".heic", ".heif", ".dib", ".tga", ".psd", ".svg", ".eps"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".exr", ".hdr", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
        *(".vsi", ".czi", ".lif", ".nd2", ".oib", ".oif", ".ims", ".dcm"),
    }
)
FIRST_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"\0\0\0\x0cjP")
NO_PICTURES = frozenset(
    {
        *(".csv", ".tsv", ".txt", ".json", ".geojson", ".yaml", ".yml", ".xml", ".md", ".html", ".log", ".py", ".ini"),
        *(".ipynb", ".xlsx", ".xls", ".ods", ".pdf", ".zip", ".gz", ".tar", ".npy", ".npz", ".h5", ".hdf5", ".dat"),
    }
)

SYSTEM = "hidden, cache or thumbnail files and folders"
NOT_UNICODE = "names are not valid Unicode, rename them to UTF-8"
BROKEN_LINK = "links lead nowhere"
SPECIAL = "pipes, sockets or devices are no image files"
CLOSED = "folders cannot be opened"
LISTED_TWICE = "links lead to what is listed anyway"
NOT_READ = "pictures of a kind that is not read (convert them to PNG or TIFF)"


@dataclass
class Listing:
    """The images below a folder.

    Attributes:
        files: Path below the folder, with forward slashes, to file; sorted.
        left_out: Why something is no image of the set, to the paths of such entries.
    """

    files: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(escaped(name))


def find_images(root: Path, pattern: str = "**/*", exclude: str | None = None) -> Listing:
    """Find the image files below a folder; links to folders are followed, and each folder is read once.

    Feature stores of cellfeat are passed over: they may hold pictures of their cells.

    Args:
        root: The folder.
        pattern: Which paths below it count: `*` stands for any name, `**` for any folders; case does not count.
        exclude: Which of these do not count.
    """
    listing, wanted = Listing(), glob_matcher(pattern)
    unwanted = glob_matcher(exclude) if exclude else None
    flat = "/" not in pattern and pattern != "**"  # no path in a folder can match
    linked_files: list[tuple[str, Path]] = []
    seen: set[str] = set()
    folders, linked = deque([("", root)]), deque[tuple[str, Path]]()
    while folders or linked:
        prefix, folder = (folders or linked).popleft()  # real folders first: their files keep their names
        if (real := os.path.realpath(folder)) in seen:
            listing.leave_out(LISTED_TWICE, prefix)
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            listing.leave_out(CLOSED, prefix or ".")
            continue
        if prefix and {entry.name for entry in entries} >= FEATURE_STORE:
            listing.leave_out(SYSTEM, prefix)
            continue
        for entry in entries:
            key = prefix + entry.name
            if is_system_name(entry.name) or _hidden_on_windows(entry):
                listing.leave_out(SYSTEM, key)
            elif _is_folder(entry):
                if not flat:
                    (linked if entry.is_symlink() else folders).append((f"{key}/", Path(entry.path)))
            elif not wanted(key) or (unwanted is not None and unwanted(key)):
                continue
            elif reason := _no_image(entry, key):
                listing.leave_out(reason, key)
            elif Path(entry.name).suffix.lower() not in SUFFIXES:
                continue
            elif entry.is_symlink():
                linked_files.append((key, Path(entry.path)))
            else:
                listing.files[key] = Path(entry.path)
    _add_linked(listing, linked_files)
    listing.files = dict(sorted(listing.files.items()))
    return listing


def is_system_name(name: str) -> bool:
    """Whether a system or a program made a file or folder of this name for itself."""
    return name.lower() in SYSTEM_NAMES or name.lower().startswith(SYSTEM_PREFIXES)


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Whether paths with forward slashes match a glob pattern; case does not count.

    Args:
        pattern: `*`, `?` and `[...]` stand for what a name may hold, `**` for any folders.
    """
    parts = [None if part == "**" else re.compile(fnmatch.translate(part.lower())) for part in pattern.split("/")]

    def with_folders(reached: set[int]) -> set[int]:
        """The parts that may come next; `**` may stand for no folder."""
        following = set(reached)
        for at in range(len(parts)):
            if at in following and parts[at] is None:
                following.add(at + 1)
        return following

    def matches(path: str) -> bool:
        reached = with_folders({0})  # numbers of the parts that the next name may match: no way is tried twice
        for name in path.lower().split("/"):
            following = set()
            for at in reached - {len(parts)}:
                part = parts[at]
                if part is None:
                    following.add(at)
                elif part.fullmatch(name):
                    following.add(at + 1)
            reached = with_folders(following)
        return len(parts) in reached

    return matches


def escaped(name: str) -> str:
    """A file name that can be printed and encoded: bytes that are not valid Unicode become \\xNN."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # an entry raises for a link in a circle


def _is_file(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def _no_image(entry: os.DirEntry[str], key: str) -> str:
    """Why what looks like a picture is no image that is read; "" for images and for what is no picture at all."""
    suffix = Path(entry.name).suffix.lower()
    if suffix not in SUFFIXES:
        return NOT_READ if _is_file(entry) and _other_picture(entry.path, suffix) else ""
    if not _is_file(entry):
        return BROKEN_LINK if entry.is_symlink() and not os.path.exists(entry.path) else SPECIAL
    return "" if escaped(key) == key else NOT_UNICODE


def _other_picture(path: str, suffix: str) -> bool:
    if suffix in OTHER_PICTURES or suffix in NO_PICTURES:
        return suffix in OTHER_PICTURES
    try:
        with open(path, "rb") as file:
            return file.read(8).startswith(FIRST_BYTES)
    except OSError:
        return False


def _hidden_on_windows(entry: os.DirEntry[str]) -> bool:
    if os.name != "nt":
        return False
    return bool(getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0) & HIDDEN_ON_WINDOWS)


def _add_linked(listing: Listing, linked: list[tuple[str, Path]]) -> None:
    """Add links to files, but not to files that are in the listing already: one cell would count twice."""
    if not linked:
        return
    real = {os.path.realpath(path) for path in listing.files.values()}
    for key, path in linked:
        target = os.path.realpath(path)
        if target in real:
            listing.leave_out(LISTED_TWICE, key)
        else:
            real.add(target)
            listing.files[key] = path

"""Text files of any system: UTF-8 and UTF-16 are read, other encodings are refused with the way out.

Code pages of Windows are not guessed. On tables of a few lines charset-normalizer 3.5 took Cyrillic (cp1251) for
Central European (cp1250) and Chinese (GBK) for Korean, and a label that silently became another word is worse than a
refusal.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from cellfeat.errors import CellfeatError

MAX_TEXT = 1 << 30  # bytes; a table of a million images has about 100 MB
SAVE_AS = "save it as UTF-8 (Excel: 'CSV UTF-8'; Notepad: encoding 'UTF-8')"
# UTF-32 before UTF-16: its little-endian mark begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | Path) -> str:
    """Read a text file: UTF-8 with or without byte order mark, or UTF-16.

    Returns:
        The text, its lines ended by "\\n" alone.

    Raises:
        CellfeatError: No such file, no regular file, too large, or another encoding.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise CellfeatError(f"{path}: a folder or a device, not a text file")
        if path.stat().st_size > MAX_TEXT:
            raise CellfeatError(f"{path}: larger than {MAX_TEXT >> 30} GiB, no text file of a dataset")
        content = path.read_bytes()
    except FileNotFoundError:
        raise CellfeatError(f"{path}: no such file") from None
    except OSError as error:
        raise CellfeatError(f"{path}: cannot be read ({error.strerror})") from None
    return decode(content, str(path))


def decode(content: bytes, source: str) -> str:
    """Bytes of a text file to text; see `read_text`.

    Args:
        source: Where they come from, for messages.
    """
    encoding = next((encoding for mark, encoding in MARKS if content.startswith(mark)), None) or _unmarked(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        what = f"byte 0x{content[error.start]:02x} in line {line}" if encoding.startswith("utf-8") else error.reason
        raise CellfeatError(f"{source}: not {encoding.removesuffix('-sig').upper()} ({what})", SAVE_AS) from None
    if "\0" in text:
        raise CellfeatError(f"{source}: not a text file, it holds NUL characters", SAVE_AS)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def printable(text: str, length: int = 200) -> str:
    """A text from elsewhere as a part of a message: on one line, without control characters, cut."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:length])


def _unmarked(content: bytes) -> str:
    """The encoding of a text without a byte order mark: in UTF-16 every other byte of plain letters is 0."""
    start = content[:4096]
    if len(start) % 2 == 0 and start.count(0) > len(start) // 4:
        return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
    return "utf-8"

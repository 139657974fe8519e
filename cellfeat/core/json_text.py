"""JSON from elsewhere: bounded before it is parsed, and what is wrong becomes one line that names the file."""

from __future__ import annotations

import json
import re
from typing import Any

from cellfeat.core.memory import available_memory
from cellfeat.core.text import SAVE_AS
from cellfeat.errors import CellfeatError

AGAIN = "restore it or make it again"
MAX_DIGITS = 300  # of an integer: as many as a float can hold
_MANY_DIGITS = re.compile(rb"\d{%d}" % (MAX_DIGITS + 1))
# Bytes of memory that Python takes at most for each sign of JSON text (CPython 3.11): a dict 232, a list 56 and the
# growth of what holds it, a number or short text 50 with its place.
_SIGNS = {b"{": 250, b"[": 100, b",": 100, b":": 100}


def parse_json(content: bytes, source: str) -> Any:
    """Parse the bytes of a JSON file: UTF-8, or UTF-16 and UTF-32 by their first bytes.

    Args:
        content: The bytes.
        source: Where they come from, for messages.

    Raises:
        CellfeatError: It is no JSON, has a key twice, an integer of more than 300 digits, is nested too deep, or would
            take more memory than there is.
    """
    size = len(content) + sum(content.count(sign) * cost for sign, cost in _SIGNS.items())
    if size > 1 << 24 and size > available_memory():
        raise CellfeatError(f"{source}: takes up to {size / 2**30:.1f} GiB of memory, more than is free; split it")
    parse_int = _integer if _MANY_DIGITS.search(content) else None  # a function of ours is called for each integer
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_int=parse_int)
    except RecursionError:
        raise CellfeatError(f"{source}: not a JSON file (nested too deep)", AGAIN) from None
    except UnicodeDecodeError as error:
        raise CellfeatError(f"{source}: not UTF-8 (byte 0x{content[error.start]:02x})", SAVE_AS) from None
    except ValueError as error:  # not JSON
        raise CellfeatError(f"{source}: not a JSON file ({error})", AGAIN) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} occurs twice in one object")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits, which begins with {digits[:12]}")
    return int(digits)

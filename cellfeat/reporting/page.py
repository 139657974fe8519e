"""Pages that are complete in themselves: HTML with its style and figures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cellfeat.core.files import write_text
from cellfeat.core.version import __version__


def write_page(output: str | Path, template: str, **context: Any) -> Path:
    """Render a template of `templates/` into a file; names are escaped, so none is ever HTML."""
    today = datetime.date.today().isoformat()
    text = _environment().get_template(template).render(version=__version__, today=today, **context)
    write_text(Path(output), text)
    return Path(output)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("cellfeat.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=_percent, heat=_heat, nats=_nats, signed=_signed, thousands="{:,}".format)
    return made


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or _absent(value) else f"{100 * value:.{digits}f}"


def _nats(value: float | None) -> str:
    return "–" if value is None or _absent(value) else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or _absent(value) else f"{value:+.2f}".replace("-", "−")


def _heat(value: float | None, strength: float = 1.0) -> str:
    """Background colour of a cell, white to blue; dark text stays readable on all of it."""
    if value is None or _absent(value):
        return "transparent"
    share = min(max(value, 0.0), 1.0) * strength
    return "rgb({:.0f},{:.0f},{:.0f})".format(*(255 + share * (full - 255) for full in (122, 182, 222)))

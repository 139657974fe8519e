"""A name that is harmless as text and runs as HTML, and the way into a server of the tests."""

from __future__ import annotations

from cellfeat.view.security import Access

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
ACCESS = Access("127.0.0.1", 8765)

"""cellfeat: comparable features of single white blood cells from blood-smear images of any laboratory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellfeat.core.version import __version__

if TYPE_CHECKING:
    from cellfeat.workflows.predict import Prediction, predict

__all__ = ["Prediction", "__version__", "predict"]


def __getattr__(name: str) -> Any:
    """Import what the package's root hands on when it is asked for: `import cellfeat` alone stays quick."""
    if name in ("Prediction", "predict"):
        from cellfeat.workflows import predict

        return getattr(predict, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""How well classes are recognised from embeddings, within a site and across sites."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellfeat.evaluation.config import EvaluationConfig
    from cellfeat.evaluation.published import load_published
    from cellfeat.evaluation.run import evaluate
    from cellfeat.evaluation.table import cross_domain_table

__all__ = ["EvaluationConfig", "cross_domain_table", "evaluate", "load_published"]

_HOME = {
    "EvaluationConfig": "config",
    "cross_domain_table": "table",
    "evaluate": "run",
    "load_published": "published",
}


def __getattr__(name: str) -> Any:
    """Import scikit-learn, pandas and matplotlib only when something that needs them is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

"""cellfeat: comparable features of single white blood cells from blood-smear images of any laboratory."""

from cellfeat.core.version import __version__

__all__ = ["__version__"]

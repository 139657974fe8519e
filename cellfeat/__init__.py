"""cellfeat: comparable features of single white blood cells from blood-smear images of any laboratory."""

__version__ = "0.1.0"

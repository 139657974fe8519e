"""Public name for scripts: `import_aecfe` makes a store of the reference implementation's files."""

from cellfeat.store.import_aecfe import import_aecfe

__all__ = ["import_aecfe"]

"""The `cellfeat` command."""

from cellfeat.cli.app import main

__all__ = ["main"]

"""Extractors and classifiers that AE-CFE is compared with, one file a method; `build` makes one by its name."""

from cellfeat.methods.registry import build, describe, list_methods, method_names, register

__all__ = ["build", "describe", "list_methods", "method_names", "register"]

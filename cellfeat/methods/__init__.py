"""Extractors and classifiers that AE-CFE is compared with, one file a method."""

"""Figures and pages for people: reports, explorations, heat maps."""

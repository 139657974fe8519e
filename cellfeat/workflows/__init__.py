"""Work that runs through several stages: a dump, a pipeline, a comparison, the demo."""

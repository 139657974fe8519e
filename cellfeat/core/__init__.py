"""What every other package is built on and what knows nothing of cells: files, settings, tensors, training glue."""

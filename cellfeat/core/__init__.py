"""What every other package stands on and what knows nothing of cells: files, settings, tensors, training glue."""

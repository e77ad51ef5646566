"""What can be done with a model, a data set and a trainer: one task per file."""

"""Where the batches of a training loss come from."""

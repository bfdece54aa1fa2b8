"""What the training loss is for single samples, and how batches scatter around the whole."""

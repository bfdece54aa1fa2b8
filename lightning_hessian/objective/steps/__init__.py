"""The user's own code that computes the loss of one batch."""

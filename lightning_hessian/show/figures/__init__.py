"""From a record to a matplotlib figure; nothing is computed here that a test would like to see."""

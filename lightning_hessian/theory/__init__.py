"""Closed-form laws and bounds, a paper each: numbers in, numbers out, no network and no data."""

"""What keeps a training step from leaving traces: snapshot, silence, seeds, exact kernels."""

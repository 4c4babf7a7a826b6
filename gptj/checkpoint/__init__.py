"""Files <-> named lazy tensors: one module per on-disk format, and no framework."""

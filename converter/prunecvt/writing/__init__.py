"""Writing files: all of them or none."""

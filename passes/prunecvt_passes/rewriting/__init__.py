"""Clean-ups of what a runtime pays for and a weight, or nothing, can do as well."""

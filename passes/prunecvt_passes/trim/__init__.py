"""Cuts that leave the outputs as they are, and those that training-time pruning prepares."""

"""Criteria: what is lost if a channel goes. One file per family; ``table.py`` lists them."""

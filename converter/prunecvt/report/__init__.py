"""The report: its schema, and how it is drawn."""

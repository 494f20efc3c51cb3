"""The commands; each parses its flags, calls the API and shows what came of it."""

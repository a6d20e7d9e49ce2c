"""Tasks: thin wiring around the folders below."""

"""Checklists: a reader for each format, the store they are kept in, and where they come from."""

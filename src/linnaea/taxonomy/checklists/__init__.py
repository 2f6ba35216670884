"""Checklists: one reader per format, the cache of imported checklists, and their sources."""

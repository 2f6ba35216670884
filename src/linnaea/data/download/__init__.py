"""Polite, resumable downloading of a table of image addresses."""

"""Linnaea: vision foundation models of the tree of life, from names and photographs to trusted taxa."""

__version__ = "0.1.0"

"""Names and the tree of life. Imports nothing else of ours but errors and storage, and never torch."""

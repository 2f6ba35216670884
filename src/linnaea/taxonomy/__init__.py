"""Names, checklists and the tree of life. This package never imports torch or the packages above it."""

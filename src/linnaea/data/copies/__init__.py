"""Copies of pictures: perceptual hashes, the search for near copies, and the rules for what is kept."""

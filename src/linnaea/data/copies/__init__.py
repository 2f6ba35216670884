"""Copies of pictures: perceptual hashes, the search for near ones, and the rules about what is kept."""

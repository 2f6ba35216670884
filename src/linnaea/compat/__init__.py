"""Other packages' modules under their own names, for scripts that were written for them."""

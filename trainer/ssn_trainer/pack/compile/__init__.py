"""A trained network to one that computes the same with less work, for inference alone."""

"""A bundle and an image to scores, a map and defect regions: the one scorer."""

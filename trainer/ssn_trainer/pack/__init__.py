"""A trained model to a bundle: export, vectors, manifest."""

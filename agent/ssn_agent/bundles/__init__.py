"""Opening a bundle safely, and pulling bundles from a signed channel."""

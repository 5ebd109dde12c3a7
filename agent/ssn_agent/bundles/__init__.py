"""Opening a bundle safely."""

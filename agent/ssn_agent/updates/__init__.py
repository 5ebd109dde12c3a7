"""Bundles into force and out of it: tried, shadowed, swapped to, kept or gone back from."""

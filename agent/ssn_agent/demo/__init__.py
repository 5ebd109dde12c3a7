"""The demonstration: a drawn production line and the bundle that judges it."""

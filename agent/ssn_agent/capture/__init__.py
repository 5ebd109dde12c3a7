"""Cameras in, frames and triggers out: one process a camera."""

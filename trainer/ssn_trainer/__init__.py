"""The trainer: labelled images in, a bundle for the agent out."""

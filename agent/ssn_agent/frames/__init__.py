"""The mapped files in which triggers and pixels cross between processes."""

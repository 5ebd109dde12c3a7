"""Training: cached features, the published and the default schedule."""

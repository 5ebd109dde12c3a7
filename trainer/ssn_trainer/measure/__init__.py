"""Metrics, thresholds and calibration. No torch here."""

"""Committed rows to the MQTT broker."""

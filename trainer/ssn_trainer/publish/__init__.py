"""Channels: signed repositories of bundles (TUF) that stations pull from; no torch."""

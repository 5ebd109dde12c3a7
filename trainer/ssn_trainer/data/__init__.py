"""Folders of labelled images to samples, groups and splits. No torch here."""

"""The service's main process: starts, watches and ends the others."""

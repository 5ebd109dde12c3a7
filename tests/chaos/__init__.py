"""The agent under faults, watched by a witness that shares nothing with it: `make chaos`."""

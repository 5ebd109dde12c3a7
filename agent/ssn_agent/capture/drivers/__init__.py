"""One file a driver, and what drivers share. Nothing of the agent but capture imports these."""

"""Setting a camera up at a line, before the agent judges with it: `ssn-agent camera`."""

"""How the station does: one object for the topic `metrics`, the endpoint and `ssn-agent status`."""

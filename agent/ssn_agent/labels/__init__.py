"""What people say of verdicts: how it comes in (MQTT, commands, HTTP), and the HTTP API."""

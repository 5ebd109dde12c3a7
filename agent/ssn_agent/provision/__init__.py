"""A site's certificate authority and its broker's files: `ssn-agent provision`.

The one part of the agent that signs. It needs the extra `provision`, belongs on a machine of the
office, not on a station, and nothing of the running agent imports it.
"""

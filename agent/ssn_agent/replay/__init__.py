"""A recorded verdict made again from its picture, its settings and its bundle: docs/replay.md."""

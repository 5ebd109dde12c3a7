"""The agent: a frame walks capture, frames, inference, ledger, publish. Never imports torch."""

from importlib.metadata import version

__version__ = version("ssn-inspect")

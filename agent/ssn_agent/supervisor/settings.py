"""The settings of the supervisor: what each process may take of the memory."""

from typing import Annotated

from pydantic import Field

from ssn_agent.section import Section

Mib = Annotated[int, Field(ge=64, le=2**20)]


class MemorySettings(Section):
    """Resident memory of one process, in MiB, without the files that processes share.

    A process that takes more is replaced: nothing is lost with it, and its memory is free again.
    """

    capture_mib: Mib = 1024
    """A driver's buffers: ten frames of 20 megapixels in colour, and the decoder of a stream."""
    inference_mib: Mib = 4096
    """A runtime with a bundle a camera, and up to 256 of pictures that wait for the disk; CUDA
    alone takes over 1000 of the host's."""
    ledger_mib: Mib = 512
    """The outbox's window, SQLite's cache."""
    http_mib: Mib = 256
    """The HTTP API with its 32 connections."""
    updates_mib: Mib = 1280
    """A bundle of 512 MiB, the largest, is there twice while it is verified."""

"""What the process does with memory that it no longer needs."""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Keep freed memory for the next tensor instead of giving it back to the system.

    Each step makes and drops tensors of hundreds of megabytes. glibc takes such from the system and
    gives them back at once, and the system clears every page anew: a third of the training's time.
    Without glibc nothing changes. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)

"""Control of how this process returns memory to the system."""

from __future__ import annotations

import ctypes

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Keep the memory that a training step frees for the next step instead of returning it to the system.

    glibc gets the memory of every large array from the kernel and returns it when it is freed. So on a CPU each step
    has tens of thousands of page faults. With this setting the process never gets smaller, so call it only in processes
    that train, not on import of a library.

    Returns:
        Whether the C library accepted the settings; without glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no handle of this process (Windows)
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))

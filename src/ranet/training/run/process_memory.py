"""How this process returns memory to the system."""

from __future__ import annotations

import ctypes

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Keep the memory that training frees for the next step instead of returning it to the system.

    glibc gets every large map of a training step from the kernel and gives it back when it is freed, so each step on a
    CPU pays again for tens of thousands of page faults. Afterwards the process stays as large as it once was: for
    processes that train, not for a library to call on import.

    Returns:
        Whether the C library took the settings; elsewhere than on glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no handle of the process itself (Windows)
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))

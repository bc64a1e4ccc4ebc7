"""Memory on a CPU: what an operation frees is kept for the next, and does not go back to the system.

glibc returns large freed blocks at once. The next map of a network then lands on pages that the system has to find and
clear again, 4 KiB at a time, which takes several times as long as to fill them.
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), from glibc's malloc.h: no blocks apart from the heap, and a heap that never shrinks.
_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> bool:
    """Let the process keep what it frees. It then holds the most that it ever needed.

    Returns:
        Whether it does: it is a matter of glibc, and other systems keep their ways.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))

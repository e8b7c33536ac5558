"""Freed memory that a worker keeps for the arrays to come.

Dask has the C library of its workers give freed memory back to the system at once. But after every
epoch arrays of the same sizes are made anew, and the system would clear all their pages again, for
as long as all else takes that is done around the kernel.
"""

import ctypes
import platform

# of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

#: Larger arrays are given back at once; glibc takes no more than this.
LARGEST_KEPT_BYTES = 32 * 2**20
#: So much stays at the end of the heap.
KEPT_BYTES = 128 * 2**20


def keep_memory() -> None:
    """From now on this process keeps freed memory, where its C library is glibc."""
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)

"""Whether a process takes the memory of its next batch anew from the system: its page faults."""

from __future__ import annotations

import ctypes
import resource

BYTES = 64 * 2**20
# prctl(2)
_PR_SET_THP_DISABLE = 41
PAGES = BYTES // resource.getpagesize()


def faults_of_a_batch() -> int:
    """Pages that the system gave for one large array, after one like it was freed."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)  # else a few huge pages would do
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = 0
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        place = libc.malloc(BYTES)
        libc.memset(place, 1, BYTES)
        libc.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

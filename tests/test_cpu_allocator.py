"""Memory that is kept: seen by the pages that the system has to provide, each time in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from mfm_hf.cpu_allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(how: str) -> int:
    """Return how many pages the system had to provide for twenty tensors of 64 MiB, one after another."""
    command = [sys.executable, "-c", SCRIPT, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is told")
def test_large_tensors_land_on_pages_that_are_there_already():
    returned = new_pages("return")
    assert returned >= 20 * 64 * 2**20 // (64 * 1024)  # pages have 4 to 64 KiB
    assert new_pages("keep") < returned / 20

import os
import sys

import pytest

from keylift.core import freed_memory
from keylift.core.freed_memory import FreedMemory


class Library:
    def __init__(self):
        self.options, self.trims = [], 0

        def mallopt(option, value):
            self.options.append((option, value))

        def malloc_trim(_):
            self.trims += 1

        self.mallopt, self.malloc_trim = mallopt, malloc_trim


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(freed_memory.time, "monotonic", lambda: now[0])
    return now


def test_memory_is_given_back_now_and_then_and_not_with_every_picture(monkeypatch, clock):
    library = Library()
    monkeypatch.setattr(freed_memory.sys, "platform", "linux")
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: library)
    freed = FreedMemory()
    assert library.options == [(-8, max(2, os.cpu_count()))]
    for picture in range(600):
        clock[0] = 100.0 + picture / 30
        freed.give_back_now_and_then()
    assert library.trims == 3


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_where_the_c_library_can_not_do_that_nothing_happens(monkeypatch, clock, platform):
    monkeypatch.setattr(freed_memory.sys, "platform", platform)
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    freed = FreedMemory()
    clock[0] += 60
    freed.give_back_now_and_then()


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps what is free")
def test_the_library_of_this_machine_does_it(clock):
    freed = FreedMemory()
    clock[0] += 60
    freed.give_back_now_and_then()
    freed.give_back_now_and_then()

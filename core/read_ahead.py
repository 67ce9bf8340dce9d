"""The next items of an iterator, made in a thread while the ones before are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], count: int = 2) -> Generator[Item, None, None]:
    """All of ``items`` in their order, up to ``count`` of them ahead; errors come where they would have come.

    ``items`` is closed at the end, and when the reader of this one closes it.
    """
    end = object()
    with ThreadPoolExecutor(1, "keylift-reads-ahead") as reader:
        pending: deque[Future[Item | object]] = deque()
        try:
            while True:
                while len(pending) < count:
                    pending.append(reader.submit(next, items, end))
                item = pending.popleft().result()
                if item is end:
                    return
                yield item  # type: ignore[misc]
        finally:
            reader.shutdown(cancel_futures=True)
            if isinstance(items, Generator):
                items.close()

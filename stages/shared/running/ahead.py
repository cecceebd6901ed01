"""Work beside a device: the next items are loaded by threads while it computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

AHEAD = 2  # items that are loaded, or being loaded, while one is worked on


def ahead(
    pool: Executor, load: Callable[[Item], Loaded], items: Iterable[Item], count: int = AHEAD
) -> Iterator[tuple[Item, Loaded]]:
    """Each item with what `load` makes of it, in order; up to `count` more are under way."""
    waiting: deque[tuple[Item, Future[Loaded]]] = deque()

    for item in items:
        waiting.append((item, pool.submit(load, item)))
        if len(waiting) > count:
            first, future = waiting.popleft()
            yield first, future.result()

    for item, future in waiting:
        yield item, future.result()

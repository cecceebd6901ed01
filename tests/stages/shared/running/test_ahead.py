"""Items are loaded ahead, in order, and no more of them than was asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stages.shared.running.ahead import ahead


def test_items_come_in_order_with_what_was_loaded():
    with ThreadPoolExecutor(3) as pool:
        assert list(ahead(pool, lambda item: item**2, range(7))) == [(n, n * n) for n in range(7)]


def test_the_next_items_are_loaded_while_one_is_worked_on():
    loaded: list[int] = []
    third = threading.Event()

    def load(item: int) -> int:
        loaded.append(item)
        if item == 2:
            third.set()
        return item

    with ThreadPoolExecutor(1) as pool:
        items = ahead(pool, load, range(10), count=2)
        assert next(items) == (0, 0)
        assert third.wait(10)
        assert loaded == [0, 1, 2]


def test_an_error_is_raised_at_its_item():
    with ThreadPoolExecutor(2) as pool:
        items = ahead(pool, lambda item: 1 // item, [1, 1, 0], count=1)
        assert next(items) == (1, 1)
        assert next(items) == (1, 1)
        with pytest.raises(ZeroDivisionError):
            next(items)

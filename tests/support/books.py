"""What tests of the books share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from agnes_mcp.spending.books import Books
from agnes_mcp.spending.stores.sqlite import FileBooks

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
OpenBooks = Callable[[], Books]


class Clock:
    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def abandon(books: FileBooks) -> None:
    """What the kernel does for a process that was killed: its files are closed, its locks are given back."""
    if books._connection is not None:
        books._connection.close()
        books._connection = None
    if books._alive is not None:
        books._alive.release()
        books._alive = None

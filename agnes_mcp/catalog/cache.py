"""A small cache that forgets: least recently used beyond a size, anything beyond its time to live."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

V = TypeVar("V")


class TtlCache(Generic[V]):
    """For one event loop. A time to live of 0 keeps nothing. Concurrent misses of a key make its value once.

    Nothing in it decides what a caller may read: a grant is looked at before, on every call, so that an entry that is
    too old is at worst a detour (`schema_changed`, `bq_not_found`, …), after which it is forgotten.
    """

    def __init__(self, max_entries: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._clock = clock
        # See `put`: the least recently used goes beyond `max_entries`, `invalidate` before its time.
        self._entries: OrderedDict[str, tuple[float, V]] = OrderedDict()
        self._making: dict[str, anyio.Lock] = {}  # keys that are being made now
        self.hits = self.misses = 0
        self.forgotten = 0  # how often something was: what began before it may be of before

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> V | None:
        # Age is looked at here and not by a timer: what is never asked for again goes by `max_entries`.
        entry = self._entries.get(key)
        if entry is not None and self._clock() >= entry[0]:
            del self._entries[key]
            entry = None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: str, value: V) -> None:
        if self._ttl_s <= 0:
            return
        self._entries[key] = (self._clock() + self._ttl_s, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def get_or_make(self, key: str, make: Callable[[], Awaitable[V]]) -> V:
        """The cached value, or what `make` gives. Who waits for another's making is not failed by its failure."""
        cached = self.get(key)
        if cached is not None:
            return cached
        lock = self._making.setdefault(key, anyio.Lock())
        try:
            async with lock:
                cached = self._made_meanwhile(key)
                if cached is None:
                    cached = await make()
                    if self._making.get(key) is lock:  # not, where it was forgotten meanwhile: then it is of before
                        self.put(key, cached)
                return cached
        finally:
            if not lock.locked() and self._making.get(key) is lock:  # otherwise who has it now clears it away
                del self._making[key]

    def _made_meanwhile(self, key: str) -> V | None:
        """The value if somebody else's making was waited for; no lookup of its own."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and self._clock() < entry[0] else None

    def invalidate(self, key: str) -> None:
        """Forget that key and every key below it (`orders`, `orders|5`), and whatever is being made for them."""
        self.forgotten += 1
        for kept in (self._entries, self._making):
            for known in [k for k in kept if k == key or k.startswith(f"{key}|")]:
                del kept[known]

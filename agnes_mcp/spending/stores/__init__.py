"""Where the books are kept: in the process, in a file that processes share, in a database that machines share."""

from __future__ import annotations

from pathlib import Path

from agnes_mcp.spending.books import Books


def open_books(store: str, folder: Path) -> Books:
    """The books that `quota.store` names; `folder` is for those of a file. Nothing is opened before the first question.

    Raises `ConfigError` where a driver is missing.
    """
    if store == "process":
        from agnes_mcp.spending.stores.sqlite import ProcessBooks

        return ProcessBooks()
    if store == "file":
        from agnes_mcp.spending.stores.sqlite import FileBooks

        return FileBooks(folder)
    from agnes_mcp.spending.stores.postgres import PostgresBooks

    return PostgresBooks(store)

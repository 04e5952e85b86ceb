"""GoogleSQL written by an agent, read for a hostile writer: one SELECT over tables that a principal may read.

A statement passes these gates, each in its own modules, and is refused at the first that it does not pass:

    lexemes, levels,  1  printable characters, lexemes of a closed list, bounded nesting; words of the grammar only
    spelling, words      where they have a meaning, functions only if listed, all other words as quoted names
    reading, nodes    2  parsed once; every node and every argument of it on a list
    queries,          3  every name resolved by GoogleSQL's scopes: a table is a place of the catalog, written as one
    relations, scope,    quoted name with an alias; a CTE; an array, written as UNNEST; columns as their schema spells
    expressions          them; lengths of generated arrays and moments of the past from constants
    reading, plain    4  rendered anew, parsed again into the same tree over the same tables

Nothing here runs anything, knows prices, or asks BigQuery. `advice` says what would make an admitted statement
cheaper, `complaints` tells BigQuery's own complaints about one.
"""

from __future__ import annotations

import hashlib
import re

from sqlglot import exp

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse.binding import Binding
from agnes_mcp.sql.warehouse.lexemes import cut
from agnes_mcp.sql.warehouse.limits import MAX_CHARS
from agnes_mcp.sql.warehouse.narrowing import narrow
from agnes_mcp.sql.warehouse.nodes import check_nodes
from agnes_mcp.sql.warehouse.places import Admitted, Names, Place, Use
from agnes_mcp.sql.warehouse.plain import render
from agnes_mcp.sql.warehouse.queries import Queries, output_limit, touch
from agnes_mcp.sql.warehouse.reading import check_counts, confirm, read
from agnes_mcp.sql.warehouse.refusals import refuse
from agnes_mcp.sql.warehouse.scope import Relation, Scope
from agnes_mcp.sql.warehouse.spelling import Spelling
from agnes_mcp.sql.working import WorkingCall

__all__ = ["Admitted", "Names", "Place", "Use", "admit"]


def admit(text: str, names: Names) -> Admitted:
    """The statement that runs for `text`, over tables that `names` gives.

    Raises AgnesError, whatever `text` is: `parse_error`, `too_complex`, `unsupported_literal`, `multi_statement`,
    `ddl_or_dml`, `not_a_select`, `table_function`, `unknown_function`, `unknown_column`, `disallowed_node`,
    `table_not_found`, `remote_sql_local_table`, `mixed_sources`. `details` hold `fragment` (at most 80 characters),
    `position` (0-based, in characters) and, where they help, `column` or `function` with the `nearest` names.
    """
    try:
        return _admitted(text, names)
    except AgnesError as error:
        if error.kind in _UNREAD and (local := _only_local(text, names)):
            raise _local(local, text) from None
        raise
    except RecursionError as error:  # the caller's own stack was nearly used up
        raise refuse("too_complex", "The statement nests too deep.", "Flatten it, or use WITH.", str(text)) from error


def _admitted(text: str, names: Names) -> Admitted:
    spelling = Spelling(text, cut(text))
    tree = read(spelling)
    check_counts(check_nodes(tree, text), spelling)
    binding = Binding(spelling, names)
    relation = Queries(binding).query(tree, Scope(), {})
    touch(relation)
    _refuse_local(binding, text)
    _refuse_two_times(binding, text)
    for node, alias, place in binding.narrowed:
        narrow(node, alias, place, binding)
    sql = render(tree)
    confirm(tree, sql, _tables(tree, binding), text)
    return Admitted(
        sql=sql,
        uses=tuple(binding.uses),
        limit=output_limit(tree),
        columns=None if tree.args.get("kind") else _columns(relation),
        crosses=tuple(binding.crosses),
        changing=binding.changing,
        digest=hashlib.sha256(sql.encode()).hexdigest(),
    )


def _tables(tree: exp.Expr, binding: Binding) -> set[str]:
    """What FROM may name in the rendered text: the places, and the names of WITH."""
    return {use.place.path for use in binding.uses} | {cte.alias for cte in tree.find_all(exp.CTE)}


def _columns(relation: Relation) -> tuple[str, ...] | None:
    if relation.open:
        return None
    return tuple(f"f{i}_" if column is None else column.name for i, column in enumerate(relation.columns))


def _refuse_local(binding: Binding, text: str) -> None:
    local = sorted({place.table_id for place in binding.local})
    remote = sorted({use.place.table_id for use in binding.uses} - set(local))
    if not local:
        return
    if not remote:
        raise _local(local, text)
    calls = ", ".join(f'fetch(table_id="{table_id}", name="snap_{table_id}")' for table_id in remote)
    raise refuse(
        "mixed_sources",
        f"{', '.join(remote)} and {', '.join(local)} are in different engines.",
        f"First {calls}, each with the select and where that it needs; then join the snapshots with `query`.",
        text,
        local=local,
        remote=remote,
    )


def _local(local: list[str], text: str) -> AgnesError:
    return refuse(
        "remote_sql_local_table",
        f"{', '.join(local)} {'is' if len(local) == 1 else 'are'} not in BigQuery.",
        f"Call {WorkingCall('query', {'sql': text})}, in DuckDB's dialect; it is free."
        if len(text) <= _SHOWN_CHARS
        else "Call `query` with this SQL, in DuckDB's dialect; it is free.",
        text,
        tables=local,
    )


#: How long a text may be to be shown again whole.
_SHOWN_CHARS = 600
#: How a text is refused that may be good SQL of DuckDB's dialect.
_UNREAD = frozenset({"parse_error", "unknown_function", "disallowed_node", "unsupported_literal"})
_AFTER_FROM = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_][A-Za-z0-9_]*)\b(?!\s*[.(])", re.IGNORECASE)


def _only_local(text: object, names: Names) -> list[str]:
    """The local tables that an unread text names, where it names no remote one."""
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        return []
    found = {word: place for word in _AFTER_FROM.findall(text) if (place := names.find((word,))) is not None}
    return [] if any(place.remote for place in found.values()) else sorted(found)


def _refuse_two_times(binding: Binding, text: str) -> None:
    moments: dict[str, str] = {}
    for use in binding.uses:
        if moments.setdefault(use.place.path, use.as_of) != use.as_of:
            message = f"{use.place.table_id} is read as of two moments."
            hint = "Read it as of one moment, or fetch one of the two and compare with `query`."
            raise _disallowed(message, hint, text)


def _disallowed(message: str, hint: str, text: str) -> AgnesError:
    return refuse("disallowed_node", message, hint, text)

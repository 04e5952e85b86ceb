"""GoogleSQL's own analyzer over a catalog of exactly the tables that a principal may read. One call at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from zetasql.api import CatalogBuilder, TableBuilder, TypeFactory
from zetasql.core.local_service import ZetaSqlLocalService
from zetasql.types import AnalyzerOptions, LanguageOptions, ProductMode, TypeKind, ZetaSQLBuiltinFunctionOptions

from agnes_mcp.models import Column
from agnes_mcp.sql.warehouse import Place
from support.googlesql import start

_KINDS = {
    "INTEGER": "INT64", "FLOAT": "DOUBLE", "FLOAT64": "DOUBLE", "BOOLEAN": "BOOL", "RECORD": "STRUCT",
}  # fmt: skip


class Resolved(NamedTuple):
    """The tables that a statement reads, as the catalog names them, and the names and types of its columns."""

    tables: frozenset[str]
    columns: tuple[str, ...]


def type_of(column: Column) -> Any:
    kind = _KINDS.get(column.type, column.type)
    if kind == "STRUCT":
        element = TypeFactory.create_struct_type([(f.name, type_of(f)) for f in column.fields])
    else:
        element = TypeFactory.create_simple_type(getattr(TypeKind, f"TYPE_{kind}"))
    return TypeFactory.create_array_type(element) if column.mode == "REPEATED" else element


class Oracle:
    """Analyses statements whose tables are written as one quoted name, `project.dataset.table`."""

    def __init__(self, places: Iterable[Place]) -> None:
        language = LanguageOptions.maximum_features()
        language.product_mode = ProductMode.PRODUCT_EXTERNAL
        self._options = AnalyzerOptions(language_options=language, default_timezone="UTC")
        root = CatalogBuilder("r").with_builtin_functions(ZetaSQLBuiltinFunctionOptions(language_options=language))
        for place in places:
            assert place.schema is not None
            builder = TableBuilder(place.path)
            for column in [*place.schema.columns, *place.schema.pseudo_columns]:
                builder = builder.add_column(column.name, type_of(column))
            table = builder.build()
            table.full_name = place.path
            root = root.add_table(table)
        start()
        self._service = ZetaSqlLocalService.get_instance()
        self._catalog_id = self._service.register_catalog(simple_catalog=root.build()).registered_id

    def resolve(self, sql: str) -> Resolved:
        """Raises where GoogleSQL does not accept the statement."""
        answer = self._service.analyze(sql_statement=sql, options=self._options, registered_catalog_id=self._catalog_id)
        statement = answer.resolved_statement
        columns = tuple(f"{column.name}" for column in statement.output_column_list or [])
        return Resolved(frozenset(_tables(statement)), columns)


def _tables(node: Any) -> set[str]:
    found: set[str] = set()
    stack, seen = [node], set[int]()
    while stack:
        inner = stack.pop()
        if isinstance(inner, list | tuple):
            stack.extend(inner)
        elif hasattr(inner, "__dict__") and id(inner) not in seen:
            seen.add(id(inner))
            if type(inner).__name__ == "ResolvedTableScan":
                found.add(inner.table.full_name)
            stack.extend(vars(inner).values())
    return found

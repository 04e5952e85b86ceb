"""What GoogleSQL's own analyzer and evaluator make of conditions over rows that the asker brings."""

from __future__ import annotations

from collections.abc import Callable


class Conditions:
    """`select` makes a statement of a list of expressions over the rows; `order_by` is their order. The module must
    have been started (`support.googlesql`)."""

    def __init__(self, select: Callable[[str], str], order_by: str) -> None:
        from zetasql.api import CatalogBuilder, PreparedQuery
        from zetasql.types import AnalyzerOptions, LanguageOptions, ZetaSQLBuiltinFunctionOptions

        language = LanguageOptions.maximum_features()
        builtin = ZetaSQLBuiltinFunctionOptions(language_options=language)
        self._catalog = CatalogBuilder("instance").with_builtin_functions(builtin).build()
        self._options = AnalyzerOptions(language_options=language)
        self._query = PreparedQuery
        self._select, self._order_by = select, order_by

    def kept(self, conditions: list[str]) -> list[str]:
        """For each condition which rows it selects, as "TFN" for true, false and NULL; or its error at run time, as
        text. Raises where one is not GoogleSQL, or not a BOOL."""
        from zetasql.core import ServerError

        marks = ", ".join(
            f"STRING_AGG(CASE (\n{condition}\n) WHEN TRUE THEN 'T' WHEN FALSE THEN 'F' ELSE 'N' END, '' "
            f"ORDER BY {self._order_by})"
            for condition in conditions
        )
        builder = self._query.builder().set_sql(self._select(marks))
        with builder.set_analyzer_options(self._options).set_catalog(self._catalog).prepare() as query:
            try:
                return [str(cell.string_value) for cell in query.execute().content.table_data.row[0].cell]
            except ServerError as error:
                if "[OUT_OF_RANGE]" not in str(error):
                    raise
                if len(conditions) == 1:
                    return [str(error)]
        half = len(conditions) // 2  # few fail, and a statement takes as long with one condition as with a dozen
        return self.kept(conditions[:half]) + self.kept(conditions[half:])

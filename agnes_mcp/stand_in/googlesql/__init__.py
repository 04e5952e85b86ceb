"""GoogleSQL compiled to DuckDB SQL: names, types, rows and bytes as BigQuery has them; what it cannot do it refuses.

`grammar` reads a text, `query`, `select` and `sources` turn it into relations, `expressions` and `calls` into typed
values, `functions` are tables of signatures, and every value remembers the leaf columns that it reads.
"""

"""GoogleSQL read and rewritten for the stand-in's DuckDB."""

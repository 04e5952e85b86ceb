"""Tables behind any other extension of DuckDB, as extracts name them: attached in a process, one per alias."""

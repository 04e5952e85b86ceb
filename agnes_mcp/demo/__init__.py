"""The embedded default: generated tables, a local BigQuery stand-in, a printed session."""

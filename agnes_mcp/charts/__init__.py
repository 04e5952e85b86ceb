"""Rows drawn: a chart from column names, its data in words, rendered in a process that can be killed."""

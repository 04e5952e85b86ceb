"""Rows drawn: a chart from column names, its data in words, rendered in a process that can be killed."""

#: Where the picture of a chart is read, as a template of the protocol's.
CHART_URI = "agnes://charts/{id}"

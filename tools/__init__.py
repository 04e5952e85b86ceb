"""What Claude can do: one module per tool, thin, without SQL or policy."""

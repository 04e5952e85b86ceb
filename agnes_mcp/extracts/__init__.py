"""What an Agnes directory holds: extracts, written and read, the analytics file over them, and what others mirror."""

"""What each tool does: one module per group of tools, named as in `tools/`."""

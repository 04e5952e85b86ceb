"""agnes-mcp: an agent discovers company data, learns the price, and fetches only what it needs."""

__version__ = "0.2.0"

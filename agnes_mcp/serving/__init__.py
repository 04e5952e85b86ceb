"""The protocol: the MCP server, its transports, and our errors in its shapes."""

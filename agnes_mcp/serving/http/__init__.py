"""Serving over HTTP: streamable HTTP and SSE, bearer tokens, probes and metrics on one Starlette app."""

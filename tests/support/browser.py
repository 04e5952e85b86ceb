"""A real Chromium, and pages on loopback to show it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.async_api import Browser, async_playwright

from support import services

Pages = dict[str, tuple[str, str]]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = await playwright.chromium.launch(executable_path=services.find("chromium"), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


class _Page(BaseHTTPRequestHandler):
    pages: Pages

    def do_GET(self) -> None:
        html, policy = self.pages.get(self.path, ("", ""))
        content = html.encode()
        self.send_response(200 if html else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def pages(content: Pages) -> Iterator[str]:
    """Serves `content` (path → HTML and its policy) until the block ends; the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("One", (_Page,), {"pages": content}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

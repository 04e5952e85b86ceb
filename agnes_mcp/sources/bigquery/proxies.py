"""Proxies are for the way out: what answers on this machine, or beside it on the link, is asked directly."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter


class DirectToThisMachine(HTTPAdapter):
    """HTTP_PROXY and HTTPS_PROXY hold for every host but loopback's and link-local ones."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        if is_beside_us(urlsplit(request.url or "").hostname or ""):
            proxies = {}
        return super().send(request, stream, timeout, verify, cert, proxies)  # type: ignore[arg-type] # a mapping is read only


def is_beside_us(host: str) -> bool:
    """Loopback, or an address of the link, which no proxy can reach for us."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    return address.is_loopback or address.is_link_local

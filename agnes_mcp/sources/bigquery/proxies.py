"""Proxies are for the way out: what answers on this machine, or beside it on the link, is asked directly."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

_NAMES = frozenset({"localhost", "metadata", "metadata.google.internal"})
#: The metadata server of AWS on IPv6, whose addresses are of no link.
_OF_CLOUDS = frozenset({"fd00:ec2::254"})

#: What urllib3 and gRPC say of a proxy that will not lead on.
_ANSWERED = re.compile(r"(?:Tunnel connection failed: |HTTP proxy returned response code )(\d{3})")
HINT = (
    "It is the proxy of HTTPS_PROXY (or ALL_PROXY): whoever keeps this instance checks its address, what it lets "
    "through, and the name and password that it asks for (http://name:password@host:port), or names in NO_PROXY what "
    "needs none."
)


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
    """This machine, by address or by name, an address of the link, or a cloud's metadata server: no proxy can reach
    them for us."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in _NAMES or name.endswith(".localhost")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_link_local or address.is_unspecified or str(address) in _OF_CLOUDS


def proxy_for(host: str) -> str | None:
    """The proxy through which the environment wants `https://host` reached; None: none.

    Google's gRPC reads these variables in small letters only, and not all of them; its REST client reads all.
    """
    if is_beside_us(host):
        return None
    return requests.utils.select_proxy(f"https://{host}", requests.utils.get_environ_proxies(f"https://{host}"))


def of_the_proxy(error: Exception) -> tuple[str, bool] | None:
    """What a proxy has to do with this error, in words that hold no address and no password, and whether it may pass;
    None: nothing."""
    text = str(error)
    if answered := _ANSWERED.search(text):
        return f"the proxy answered {answered[1]}", not answered[1].startswith("4")
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in text:
        return "a SOCKS proxy is named, and no support for it is installed", False
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return "the proxy's address is not one", False
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached, or does not lead on", True
    return None

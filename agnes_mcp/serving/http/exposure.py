"""Who could call a server at an address: apart, so that whoever asks only this need not load a server."""

from __future__ import annotations

from agnes_mcp.config.settings import Settings, is_loopback
from agnes_mcp.errors import ConfigError


def check_exposure(settings: Settings, host: str) -> None:
    """Raises `ConfigError` where strangers could call: beyond this machine only with users and named hosts."""
    server, access = settings.server, settings.access
    if access.oidc is not None and not access.users:
        raise ConfigError(
            "access.oidc is set, but access.users is empty, so that nobody may call.",
            "List each caller under access.users, by the value of access.oidc.principal_claim.",
            "access.users",
        )
    if is_loopback(host):
        return
    if not access.users:
        raise ConfigError(
            f"{host} can be reached from other machines, but no user is configured.",
            "Configure access.users (`agnes-mcp token new` makes a token), or serve on 127.0.0.1.",
            "access.users",
        )
    if not server.public_url and not server.allowed_hosts:
        raise ConfigError(
            f"{host} can be reached from other machines, but the names of this server are not configured.",
            "Set server.public_url, or list its Host headers in server.allowed_hosts.",
            "server.allowed_hosts",
        )

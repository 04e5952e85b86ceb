"""The skill that teaches an agent the rails, offered over MCP too (the skills extension, SEP-2640)."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml
from mcp.types import PaginatedRequestParams, RequestParams

from agnes_mcp.errors import AgnesError
from agnes_mcp.serving.errors import protocol_error
from agnes_mcp.serving.server import AgnesServer

from ._contents import MARKDOWN

EXTENSION = "io.modelcontextprotocol/skills"
NAME = "agnes-data-querying"
ROOT = f"skill://{NAME}"
MANIFEST = f"{ROOT}/SKILL.md"
_DIRECTORY = "inode/directory"
_TTL_MS = 300_000


class _Named(RequestParams):
    uri: str


def register(server: AgnesServer) -> None:
    for path, text in skill_files().items():
        name, described = (NAME, frontmatter()["description"]) if path == "SKILL.md" else (path, f"{NAME}: {path}")
        server.resource(f"{ROOT}/{path}", name=name, description=described, mime_type=MARKDOWN)(_reader(text))
    low = server.lowlevel
    low.extensions[EXTENSION] = {"directoryRead": True}
    low.add_request_handler("skills/list", PaginatedRequestParams, _list)
    low.add_request_handler("skills/get", _Named, _get)
    low.add_request_handler("resources/directory/read", _Named, _read_directory)


def _reader(text: str) -> Any:
    async def read() -> str:
        return text

    return read


async def _list(ctx: Any, params: PaginatedRequestParams | None) -> dict[str, Any]:
    return {"skills": [entry()], **_cached()}


async def _get(ctx: Any, params: _Named) -> dict[str, Any]:
    if params.uri != MANIFEST:
        raise _unknown(params.uri)
    return {"skill": entry(), **_cached()}


async def _read_directory(ctx: Any, params: _Named) -> dict[str, Any]:
    folders = {ROOT: "", **{f"{ROOT}/{folder}": f"{folder}/" for folder in _folders()}}
    inside = folders.get(params.uri.rstrip("/"))
    if inside is None:
        raise _unknown(params.uri)
    children = [
        {"uri": f"{ROOT}/{path}", "name": path.removeprefix(inside), "mimeType": MARKDOWN}
        for path in skill_files()
        if path.startswith(inside) and "/" not in path.removeprefix(inside)
    ]
    below = [{"uri": f"{ROOT}/{folder}", "name": folder, "mimeType": _DIRECTORY} for folder in _folders()]
    return {"resources": [*children, *([] if inside else below)], **_cached()}


def _folders() -> list[str]:
    return sorted({path.rpartition("/")[0] for path in skill_files()} - {""})


def entry() -> dict[str, Any]:
    """The skill as a list shows it: its frontmatter, and each file with the digest and size of its bytes."""
    listed = [
        {
            "uri": f"{ROOT}/{path}",
            "digest": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
            "size": len(text.encode()),
        }
        for path, text in skill_files().items()
    ]
    return {"uri": MANIFEST, "frontmatter": frontmatter(), "resources": listed}


@cache
def frontmatter() -> dict[str, Any]:
    described: dict[str, Any] = yaml.safe_load(skill_files()["SKILL.md"].split("---\n", 2)[1])
    return described


@cache
def skill_files() -> dict[str, str]:
    """Every file of the skill by its path inside it."""
    return dict(sorted(_walk(files("agnes_mcp.skills").joinpath(NAME), "")))


def _walk(folder: Traversable, inside: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for child in folder.iterdir():
        if child.is_dir():
            found += _walk(child, f"{inside}{child.name}/")
        elif child.name.endswith(".md"):
            found.append((f"{inside}{child.name}", child.read_text(encoding="utf-8")))
    return found


def _cached() -> dict[str, Any]:
    return {"ttlMs": _TTL_MS, "cacheScope": "public"}


def _unknown(uri: str) -> Exception:
    failure = AgnesError("resource_not_found", "There is no such skill or folder.", f"There is {MANIFEST}.")
    return protocol_error(failure, uri=uri[:300])

"""Files that read others, or stand for more than a machine holds: nothing of elsewhere is served, and nobody dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.arrow_bombs import bombs
from support.awkward import Awkward, databases, links
from support.counts import tell
from support.instances import connected, settings_of, table, write
from support.workbooks import hostile

from agnes_mcp.gateway import Gateway

pytestmark = pytest.mark.soak

#: Of the machine, or of a file beside what was served.
SECRETS = ("root:", "/etc/", "Linux version", "99")


async def test_hostile_files(tmp_path: Path) -> None:
    """Each is refused in words without what it is after; the table beside them is served after every one."""
    attacks: dict[str, Awkward] = {}
    for make in (databases, links, hostile, bombs):
        folder = tmp_path / make.__name__
        folder.mkdir()
        attacks |= {name: each for name, each in make(folder).items() if each.kind}
    tables = [table(name, each.path, **each.table) for name, each in attacks.items()]
    tables.append(table("honest", write(tmp_path, "honest.parquet", "SELECT 7 AS a")))
    tried, through = 0, list[str]()
    async with Gateway(settings_of(tmp_path / "s", tables)) as gateway, connected(gateway, "auto") as client:
        for name in attacks:
            for tool, arguments in (("scan", {"table_id": name}), ("query", {"sql": f'SELECT * FROM "{name}"'})):
                told = (await client.call_tool(tool, arguments)).structured_content or {}
                tried += 1
                said = f"{told.get('message')} {told.get('hint')}"
                if "error" not in told or any(secret in said for secret in SECRETS):
                    through.append(f"{name} {tool}: {told}")
            honest = (await client.call_tool("scan", {"table_id": "honest"})).structured_content or {}
            assert honest["rows"] == [[7]], name
    tell("hostile files", tried=tried, through=len(through))
    assert through == []

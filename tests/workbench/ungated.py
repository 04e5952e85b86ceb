"""A worker process without the gate: every text reaches the locked engine, with every view granted."""

from collections.abc import Sequence

from agnes_mcp.calls.processes.child import main
from agnes_mcp.workbench.admission import Parser
from agnes_mcp.workbench.serving import Queries


def admit_everything(sql: str, tables: Sequence[str], parser: Parser) -> list[str]:
    return list(tables)


class Ungated(Queries):
    admit = staticmethod(admit_everything)


if __name__ == "__main__":
    main({"query": Ungated})

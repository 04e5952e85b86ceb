"""A worker process without the gate: every text reaches the locked engine, with every view granted."""

from collections.abc import Sequence

from agnes_mcp.workbench.admission import Parser
from agnes_mcp.workbench.child import main


def admit_everything(sql: str, tables: Sequence[str], parser: Parser) -> list[str]:
    return list(tables)


if __name__ == "__main__":
    main(admit_everything)

"""Agent-written SQL over local tables and snapshots, in killable processes.

Workbench.run        the server's side: pool, deadline, cancellation
  └─ Worker          one process: pipes, kill
       └─ child      confinement, a fresh DuckDB instance per query
            └─ serving    gate (admission) → grant (engine) → run → Arrow
"""

from agnes_mcp.workbench.views import View
from agnes_mcp.workbench.workbench import Result, Workbench

__all__ = ["Result", "View", "Workbench"]

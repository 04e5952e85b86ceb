"""Agent-written SQL over local tables and snapshots, in killable processes.

Workbench.run        the server's side: what a query may read
  └─ Processes       pool, deadline, cancellation
       └─ child      confinement; one question after another
            └─ Queries    gate (admission) → grant → a locked instance → run → Arrow

Nothing is imported here: what a process starts with is `serving`, and nothing of the server's side.
"""

#: What a process has to be handed to answer queries.
JOB = {"query": "agnes_mcp.workbench.serving:Queries"}

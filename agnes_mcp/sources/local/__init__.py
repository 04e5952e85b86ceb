"""Tables in files of this machine."""

#: What a process has to be handed to read local tables.
JOB = {"read": "agnes_mcp.sources.local.job:Reads"}

"""Child processes that can be killed: a pool of workers, each handed its job, confined before it starts."""

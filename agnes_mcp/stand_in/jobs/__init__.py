"""The stand-in's query jobs: queued, priced, run, billed."""

"""All SQL that we write, and the only place that reads what an agent wrote for a statement of ours."""

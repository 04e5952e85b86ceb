"""Who calls, what they may read, and how often."""

"""One call: who asks, until when, in which thread or child process, and the audit line that says how it ended."""

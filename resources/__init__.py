"""What Claude can read: resources, prompts and completions."""

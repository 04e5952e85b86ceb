"""The rails for an agent, as skills."""

"""Tables in files of this machine."""

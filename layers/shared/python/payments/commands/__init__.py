"""The commands that move money, one file each, and the phases that all of them pass."""

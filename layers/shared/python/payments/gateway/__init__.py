"""The gateway that moves the money."""

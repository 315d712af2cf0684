"""Where the money really moves."""

"""The SQL. Each function sends one phase of a command: one round trip, one transaction."""

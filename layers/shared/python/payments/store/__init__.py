"""The books, in PostgreSQL. Each function is one phase of a flow: one flush to the server, one transaction."""

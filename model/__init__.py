"""A model of the protocol in Promela, and its check by Spin. Never shipped; docs/protocol.md explains it."""

"""A model of the protocol in Promela, and its check with Spin. We never ship it; docs/protocol.md explains it."""

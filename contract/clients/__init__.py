"""Clients that other people's generators make from docs/openapi.json and docs/asyncapi.yaml: made, compiled and used.

`make clients` runs `python -m contract.clients`. Each folder holds a program written by hand and what builds it. Everything that
a generator or a compiler writes is in build/clients/.
"""

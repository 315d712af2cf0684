"""The public contract: schemas and examples, and the generators of docs/openapi.json and docs/asyncapi.yaml."""

"""Does a Lambda durable function charge twice? The run behind docs/adr/024-durable-functions.md: `make durable`."""

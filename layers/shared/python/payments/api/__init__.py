"""The ways in: HTTP (FastAPI lives here and nowhere else), direct invocation, look-ups and health."""

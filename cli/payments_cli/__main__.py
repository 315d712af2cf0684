"""`python -m payments_cli`, where the package is not installed."""

from payments_cli.main import app

app(prog_name="payments")

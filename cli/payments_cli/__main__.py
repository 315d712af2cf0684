"""`python -m payments_cli`: run the command line without installing the package."""

from payments_cli.ending import main

main()

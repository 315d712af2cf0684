"""`python -m payments_cli`: run the command line without installing the package."""

from payments_cli.run import main

main()

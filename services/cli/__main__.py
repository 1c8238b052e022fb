"""`python -m services.cli`, the same as `polyplane`."""

from services.cli.main import main

main()

"""`python -m cachescope`: the command line without its script."""

from cachescope.cli.main import main

main()

"""`python -m weightstats`."""

from weightstats.cli import main

main()

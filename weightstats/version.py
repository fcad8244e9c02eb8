"""The version of weightstats, which pyproject.toml takes from here."""

VERSION = "0.1.0"

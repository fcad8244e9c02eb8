"""The commands, one module each: options in, text and exit codes out."""

COMMANDS = ("inspect", "compare", "layers", "groups", "check", "laws", "formats", "completion")
"""The modules of this folder that hold a command of their own name, in the order in which `--help` lists them."""

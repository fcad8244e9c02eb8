"""`python -m weightstats`, and what the command `weightstats` runs."""

import gc
import os
import sys


def main() -> None:
    """Run the command line; an interrupt ends it with its own code even before it is loaded."""
    gc.set_threshold(50_000, 20, 20)  # importing makes many objects and no garbage: a twentieth of the time of a start
    try:
        from weightstats.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
        os._exit(130)


if __name__ == "__main__":
    main()

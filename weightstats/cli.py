"""The command line: errors into lines and exit codes. Only this and `commands/` print or exit."""

import io
import os
import signal
import sys
import traceback
from importlib import import_module

import click

from weightstats.commands import COMMANDS
from weightstats.commands.options import examples
from weightstats.commands.output import UNREADABLE, interrupts, write
from weightstats.errors import UsageError, WeightstatsError, printable

INTERRUPTED = 130


def main() -> None:
    """Run the command line; the one place that turns errors into lines and exit codes."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums are shared out among processes instead
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that its encoding does not have is no error
    signal.signal(signal.SIGINT, _on_interrupt)
    debug = "--debug" in sys.argv[1:]
    try:
        code = cli.main(prog_name="weightstats", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # sys.exit may end in the signal itself, where it came while a library was imported
    except click.ClickException as error:
        error.show()
        _exit(error.exit_code)
    except UsageError as error:
        _exit(2, f"Error: {printable(str(error))}")
    except WeightstatsError as error:
        _trace(debug)
        _exit(UNREADABLE, printable(str(error)))
    except OSError as error:
        _trace(debug)
        _exit(UNREADABLE, printable(f"{error.filename or 'output'}: {error.strerror or error}"))
    except Exception as error:
        _trace(debug)
        _exit(UNREADABLE, printable(f"unexpected {type(error).__name__}: {error} (--debug shows where)"))
    _exit(code if isinstance(code, int) else 0)


def _on_interrupt(number: int, frame: object) -> None:
    interrupts.append(number)
    raise KeyboardInterrupt


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order in which `--help` lists them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"weightstats.commands.{cmd_name}"), cmd_name)
        return command


def _show_versions(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from weightstats.commands.versions import versions

        write(versions())
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("weightstats inspect model.safetensors", "weightstats inspect --help"),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Show the versions of weightstats and of what it uses, and exit.",
)
def cli() -> None:
    """Audit a neural network that somebody else trained, from its checkpoint alone.

    Exit codes: 0 done; 1 a check did not hold; 2 usage; 3 a checkpoint could not be read, or an output not be written;
    130 interrupted.
    """


def _trace(debug: bool) -> None:
    if debug:
        click.echo(traceback.format_exc(), err=True, nl=False)


def _exit(code: int, message: str | None = None) -> None:
    if message is not None:
        click.echo(message, err=True)
    sys.exit(code)

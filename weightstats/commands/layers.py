"""`weightstats layers`: what each tensor is taken for, and why."""

from pathlib import Path

import click

from weightstats.commands.options import AS_STORED, DEBUG, LIMIT, ROOT, RULES, examples, limits_of
from weightstats.commands.output import tell_damage, tell_warnings, width, write


@click.command(
    short_help="What each tensor is taken for, and why.",
    epilog=examples(
        "weightstats layers model.safetensors",
        "weightstats layers model.safetensors --rules rules.toml",
        "weightstats layers model.safetensors --all --format csv",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=str))
@click.option(
    "--format",
    "format_",
    type=click.Choice(("terminal", "json", "csv")),
    default="terminal",
    show_default=True,
    help="How to list.",
)
@ROOT
@RULES
@AS_STORED
@click.option("--all", "every", is_flag=True, help="A line for every tensor, also where many are alike.")
@LIMIT
@DEBUG
def layers(
    checkpoint: str,
    format_: str,
    root: str | None,
    rules: Path | None,
    as_stored: bool,
    every: bool,
    limits: tuple[str, ...],
    debug: bool,
) -> int:
    """List what each tensor of CHECKPOINT is taken for, and why, without reading the weights.

    A weight that holds several maps (q, k and v; the gates of an LSTM; a stack of experts) is shown with its parts.
    Where a tensor is taken for the wrong thing, a rule says what it is: --rules.

    Exit codes: 0 read and listed; 2 usage; 3 the checkpoint could not be read or is truncated; 130 interrupted.
    """
    from weightstats.inspection import list_layers
    from weightstats.renderers import layers_text

    listing = list_layers(checkpoint, root=root, as_stored=as_stored, rules=rules, limits=limits_of(limits))
    tell_warnings(listing)
    if format_ == "terminal":
        write(layers_text.as_terminal(listing, width(), every=every, warnings=False))
    else:
        write(layers_text.as_json(listing) if format_ == "json" else layers_text.as_csv(listing))
    return tell_damage(listing)

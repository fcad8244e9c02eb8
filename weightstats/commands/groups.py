"""`weightstats groups`: a penalty as weight decay, ready for a training script."""

from pathlib import Path

import click

from weightstats.commands.options import (
    AS_STORED,
    DEBUG,
    LIMIT,
    ROOT,
    RULES,
    completed_from,
    examples,
    exclude,
    include,
    limits_of,
    output,
)
from weightstats.commands.output import ProgressBar, deliver, refuse_overwriting, tell_damage, tell_warnings
from weightstats.penalties import PENALTIES

PENALTY_NAMES = ("plain", "per-element", "fan-scaled")
"""As they are offered; those of `penalties.PENALTIES`, which stand in JSON, are taken too."""


@click.command(
    short_help="An L2 penalty as weight decay for torch.optim.",
    epilog=examples(
        "weightstats groups model.safetensors --output decay_groups.py",
        "weightstats groups model.pt --penalty per-element --weight-decay 0.1",
        "weightstats groups model.safetensors --as json --exclude '*embed*'",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=str))
@click.option(
    "--penalty",
    type=click.Choice((*PENALTY_NAMES, *PENALTIES[1:])),
    default="fan-scaled",
    show_default=True,
    metavar=f"[{'|'.join(PENALTY_NAMES)}]",
    shell_complete=completed_from(PENALTY_NAMES),
    help="The penalty that the decay is the gradient of.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(min=0.0),
    default=1e-2,
    show_default=True,
    metavar="D",
    help="torch's weight_decay of the plain decay that the penalty stands in for.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(("torch", "json")),
    default="torch",
    show_default=True,
    help="A Python function for a training script, or JSON.",
)
@click.option("--raw", is_flag=True, help="D times the decay factor k itself: the penalty has a total of its own.")
@output("the groups")
@ROOT
@RULES
@AS_STORED
@include("Decay only layers")
@exclude("Do not decay layers")
@LIMIT
@DEBUG
def groups(
    checkpoint: str,
    penalty: str,
    weight_decay: float,
    form: str,
    raw: bool,
    output: Path | None,
    root: str | None,
    rules: Path | None,
    as_stored: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    limits: tuple[str, ...],
    debug: bool,
) -> int:
    """Print an L2 penalty as weight decay: parameter groups for torch.optim.

    \b
    The penalty is lambda * sum of k * w**2 with a factor k for each layer:
      plain        1
      per-element  1 / N
      fan-scaled   (n_in + n_out) / N

    Its gradient is 2 * lambda * k * w. torch's weight_decay d adds d * w to the gradient, so that d = 2 * lambda * k
    takes the same steps in SGD, with momentum too, and in Adam and its kin, which rescale it as they do the loss's
    gradient. AdamW multiplies the weights by 1 - lr * d, apart from the gradient.

    D is torch's weight_decay of the plain decay, and a layer gets D times its decay multiplier as in `weightstats
    inspect`: the penalty then has the plain one's total on the weights as they are in CHECKPOINT. What is no layer
    (biases, norms, ...) gets 0. Maps that are fused in one parameter have one decay: their own where they are of one
    size, otherwise the mean of theirs by elements.

    Exit codes: 0 read and printed; 2 usage; 3 the checkpoint could not be read or is truncated, or the groups could not
    be written; 130 interrupted.
    """
    from weightstats.decay_groups import make_groups, penalty_named
    from weightstats.inspection import inspect as inspect_checkpoint
    from weightstats.renderers import groups_text

    refuse_overwriting({"--output": output}, [("checkpoint", checkpoint), ("file of rules", rules)])
    with ProgressBar() as progress:
        report = inspect_checkpoint(
            checkpoint,
            root=root,
            include=include,
            exclude=exclude,
            as_stored=as_stored,
            rules=rules,
            limits=limits_of(limits),
            progress=progress.advance,
        )
    made = make_groups(report, penalty_named(penalty), weight_decay, equal_total=not raw)
    tell_warnings(report.checkpoint)
    deliver(groups_text.as_json(made) if form == "json" else groups_text.as_torch(made), output)
    return tell_damage(report.checkpoint)

"""Audit a trained checkpoint: the mean squared weight of each layer, the law c/(n_in+n_out), and how L2 would split.

    location --readers--> Tensor ... --network, layers--> Layer | Other --moments--> Moments
             --laws--> Fit --penalties--> Split --report--> Report --renderers--> text

`weightstats.inspect("model.pt")` runs all of it and returns the Report; `weightstats.list_layers("model.pt")` stops
before the moments and returns the Listing: what each tensor was taken for, and why.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weightstats.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from weightstats.checking import check
    from weightstats.checks import Check
    from weightstats.comparing import compare, trajectory
    from weightstats.comparison import Comparison
    from weightstats.errors import CheckpointError, UsageError, WeightstatsError
    from weightstats.inspection import inspect, list_layers
    from weightstats.listing import Listing
    from weightstats.policies import Policy, read_policy
    from weightstats.report import Report
    from weightstats.training import parameter_groups, penalty
    from weightstats.trajectories import Trajectory

_HOMES = {
    "Check": "weightstats.checks",
    "CheckpointError": "weightstats.errors",
    "Comparison": "weightstats.comparison",
    "Listing": "weightstats.listing",
    "Policy": "weightstats.policies",
    "Report": "weightstats.report",
    "Trajectory": "weightstats.trajectories",
    "UsageError": "weightstats.errors",
    "WeightstatsError": "weightstats.errors",
    "check": "weightstats.checking",
    "compare": "weightstats.comparing",
    "inspect": "weightstats.inspection",
    "list_layers": "weightstats.inspection",
    "parameter_groups": "weightstats.training",
    "penalty": "weightstats.training",
    "read_policy": "weightstats.policies",
    "trajectory": "weightstats.comparing",
}
"""Public names are imported when they are first used: numpy takes longer than `weightstats --help` may."""

__all__ = [
    "Check",
    "CheckpointError",
    "Comparison",
    "Listing",
    "Policy",
    "Report",
    "Trajectory",
    "UsageError",
    "WeightstatsError",
    "__version__",
    "check",
    "compare",
    "inspect",
    "list_layers",
    "parameter_groups",
    "penalty",
    "read_policy",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'weightstats' has no attribute {name!r}")

"""The structure that CONTRIBUTING.md describes is the one that is there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "weightstats"

ORDER = (
    *("version", "limits", "errors", "places", "extras", "dtypes", "tensors", "pieces", "encodings", "checkpoint"),
    *("order", "containers", "configs", "schemas", "readers", "modules", "budget", "network", "effective_weights"),
    *(
        "layer_names",
        "fused_names",
        "surroundings",
        "fused",
        "kernels",
        "uses",
        "normalised",
        "rules",
        "rule_uses",
        "layers",
    ),
    *("workers", "moments", "alignment", "regions", "pairs", "matching", "steps"),
    *("laws", "roles", "estimates", "observations", "contest", "verdicts", "fits", "findings"),
    *("initialisers", "draws", "hypotheses", "samples", "initialisation", "untrained"),
    *("penalties", "report", "frames", "listing"),
    *("decayed_parameters", "name_patterns", "decay_groups"),
    *("changes", "comparison_findings", "comparison", "trajectories"),
    *("demands", "subjects", "policies", "judgements", "checks"),
    *("renderers", "inspection", "training", "comparing", "checking"),
    *("commands", "cli"),
)

ALLOWED_BACK = {(step, "renderers") for step in ("report", "listing", "comparison", "trajectories", "checks")}
ALLOWED_BACK |= {("report", "frames")}
"""A report shows itself in a notebook, and all by print(): the renderers are imported where they are used. So are the
libraries of tables, by a report's `to_arrow` and `to_pandas`."""


def step_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_steps(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {module.split(".")[1] for module in modules if module.startswith("weightstats.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    step = step_of(path)
    if step in ("__init__", "__main__"):
        return
    for other in imported_steps(path) - {step}:
        assert ORDER.index(other) < ORDER.index(step) or (step, other) in ALLOWED_BACK, f"{step} imports {other}"


def test_every_step_has_its_place_in_the_order() -> None:
    assert {step_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"} == set(ORDER)


def test_contributing_names_every_step() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [step for step in ORDER if f"`{step}`" not in text and f"`{step}/`" not in text] == []


SLOW = ("torch", "scipy.stats", "pandas", "pyarrow", "altair", "jinja2", "vl_convert", "plotext")


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "fixtures/made/law.safetensors", "--format", "json"]])
def test_the_command_line_imports_nothing_that_is_slow_and_not_asked_for(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom weightstats.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.exit(str([name for name in {SLOW} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"


def test_help_does_not_import_numpy() -> None:
    code = "import sys\nimport weightstats.cli\nsys.exit(str('numpy' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "False"


def test_only_the_command_line_prints_or_exits() -> None:
    for path in PACKAGE.rglob("*.py"):
        if step_of(path) in ("commands", "cli", "__main__"):
            continue
        calls = [
            node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"print", "exit", "quit", "eval", "exec"}, path.name


def test_public_names_can_be_imported() -> None:
    import weightstats

    assert all(getattr(weightstats, name) is not None for name in weightstats.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = weightstats.nonsense

"""Write docs/commands.md and the manual pages in docs/man from what click says of the commands. Run by `make docs`.

click-man would not do: it finds no commands that are imported when they are asked for, drops epilogs, and leaves what
roff acts on as it is.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from weightstats.cli import cli
from weightstats.version import VERSION

DOCS = Path(__file__).resolve().parent.parent / "docs"

VERBATIM = "\b\n"
"""click's mark of a paragraph whose lines stay as they are."""

CODES = re.compile(r"(?:\x08\n)?Exit codes:\s+(.+)", re.DOTALL)
"""The paragraph on exit codes: `0 read; 2 usage.` in one line, or a line for each."""


@dataclass(frozen=True, slots=True)
class Page:
    """What click knows of a command."""

    path: str
    """`weightstats inspect`"""

    summary: str
    usage: str
    paragraphs: tuple[str, ...]
    """Those that begin with VERBATIM keep their lines."""

    options: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    exit_codes: tuple[tuple[str, str], ...]
    examples: tuple[str, ...]

    @property
    def file(self) -> str:
        """The name of its manual page."""
        return f"{self.path.replace(' ', '-')}.1"


def pages() -> tuple[Page, ...]:
    """That of the whole, and one for each command."""
    root = click.Context(cli, info_name="weightstats", **cli.context_settings)
    commands = [(name, cli.get_command(root, name)) for name in cli.list_commands(root)]
    contexts = [click.Context(command, parent=root, info_name=name) for name, command in commands if command]
    return (_page(root), *map(_page, contexts))


def _page(context: click.Context) -> Page:
    command = context.command
    paragraphs = re.split(r"\n{2,}", inspect.cleandoc(command.help or ""))
    codes = [match[1] for match in map(CODES.fullmatch, paragraphs) if match]
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [option.get_help_record(context) for option in options]
    subcommands = command.list_commands(context) if isinstance(command, click.Group) else []
    known = [(name, command.get_command(context, name)) for name in subcommands]  # type: ignore[attr-defined]
    return Page(
        path=context.command_path,
        summary=command.get_short_help_str(limit=1000).rstrip("."),
        usage=" ".join([context.command_path, *command.collect_usage_pieces(context)]),
        paragraphs=tuple(text for text in paragraphs if not CODES.fullmatch(text)),
        options=tuple(record for record in records if record is not None),
        commands=tuple((name, found.get_short_help_str(limit=1000)) for name, found in known if found is not None),
        exit_codes=tuple(code for text in codes for code in _codes(text)),
        examples=tuple(_examples(command.epilog or "")),
    )


def flat(text: str) -> str:
    return " ".join(text.split())


def _codes(text: str) -> Iterator[tuple[str, str]]:
    """Each code with what it means."""
    for part in re.split(r";\s+(?=\d+ )|\n\s*(?=\d+ )", text.removesuffix(".")):
        code, meaning = flat(part).split(" ", 1)
        yield code, meaning


def _examples(epilog: str) -> Iterator[str]:
    """The command lines of an epilog."""
    for line in epilog.splitlines():
        found = re.fullmatch(r"\s*(?:Example: )?(\S.*)", line.replace("\b", ""))
        if found and found[1] != "Examples:":
            yield found[1]


def manual(page: Page, others: Sequence[Page]) -> str:
    """The page for `man`: roff with nothing but ASCII in it, and without a date."""
    name = page.file.removesuffix(".1")
    lines = [f'.TH "{roff(name.upper())}" 1 "" "weightstats {VERSION}" "weightstats manual"']
    lines += [".SH NAME", f"{roff(name)} \\- {roff(page.summary)}", ".SH SYNOPSIS", f".B {roff(page.path)}"]
    lines += [roff(page.usage.removeprefix(page.path).strip()), ".SH DESCRIPTION"]
    for text in page.paragraphs:
        if text.startswith(VERBATIM):
            lines += [".PP", ".nf", *map(roff, text.removeprefix(VERBATIM).splitlines()), ".fi"]
        else:
            lines += [".PP", roff(flat(text))]
    lines += [".SH OPTIONS"]
    for option, said in page.options:
        lines += [".TP", re.sub(r"(?<![\w-])((?:\\-)+[\w\\-]+)", r"\\fB\1\\fR", roff(option)), roff(said)]
    if page.commands:
        lines += [".SH COMMANDS"]
    for command, said in page.commands:
        lines += [".TP", f".B {roff(command)}", roff(said)]
    lines += [".SH EXIT STATUS"]
    for code, meaning in page.exit_codes:
        lines += [".TP", f".B {code}", roff(meaning)]
    lines += [".SH EXAMPLES", ".nf", *map(roff, page.examples), ".fi", ".SH SEE ALSO"]
    also = [other.file.removesuffix(".1") for other in others if other.file != page.file]
    lines += [",\n".join(f".BR {roff(other)} (1)" for other in also)]
    return "\n".join(lines) + "\n"


_MEANT = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "^": "\\(ha", "~": "\\(ti"}
"""What roff would act on, or print as something else."""


def roff(text: str) -> str:
    """Text as roff prints it; what stands in backticks is bold."""
    escaped = "".join(_MEANT.get(sign) or (sign if sign.isascii() else f"\\[u{ord(sign):04X}]") for sign in text)
    bold = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    return f"\\&{bold}" if bold.startswith(".") else bold


def browsable(found: Sequence[Page]) -> str:
    """All pages as one Markdown document."""
    lines = [
        "# Commands",
        "",
        "What `weightstats COMMAND --help` says, for those who browse. `man docs/man/weightstats.1` shows the same.",
        "Made by `make docs`.",
    ]
    for page in found:
        lines += ["", f"## {page.path}", "", "```text", page.usage, "```"]
        for text in page.paragraphs:
            verbatim = text.startswith(VERBATIM)
            lines += ["", *(["```text", text.removeprefix(VERBATIM), "```"] if verbatim else [markdown(flat(text))])]
        for title, rows in (("Command", page.commands), ("Option", page.options), ("Exit code", page.exit_codes)):
            if rows:
                lines += ["", f"| {title} | |", "|---|---|"]
                lines += [f"| {_code(f'`{name}`')} | {markdown(said)} |" for name, said in rows]
        lines += ["", "```console", *(f"$ {example}" for example in page.examples), "```"]
    return "\n".join(lines) + "\n"


_MARKDOWN = re.compile(r"[*<|\\]|\](?=[(\[])|(?<!\w)_|_(?!\w)")
"""What Markdown would act on; an underscore within a word it leaves alone."""


def markdown(text: str) -> str:
    """Text in which nothing but backticks means anything to Markdown."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(_code(part) if part.startswith("`") else _MARKDOWN.sub(r"\\\g<0>", part) for part in parts)


def _code(text: str) -> str:
    """Text in backticks, in a table."""
    return text.replace("|", "\\|")


def generated() -> dict[Path, str]:
    """Every file with what it should hold."""
    found = pages()
    manuals = {DOCS / "man" / page.file: manual(page, found) for page in found}
    return {DOCS / "commands.md": browsable(found), **manuals}


if __name__ == "__main__":
    (DOCS / "man").mkdir(exist_ok=True)
    for old in (DOCS / "man").glob("*.1"):
        old.unlink()
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")

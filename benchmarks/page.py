"""docs/benchmarks.md: every benchmark writes its own section."""

import argparse
import sys
import time
from pathlib import Path

from pyloric_db.pipeline.machine import machine, version_line

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"

INTRO = """# Benchmarks

Every section is written by the command that it names and says where and when it was measured. The
unit is the circuit-step: one dt (0.05 ms) of a three-cell circuit; Mcs is a million of them. A
simulated second is 20,000 circuit-steps.
"""


def arguments(doc: str | None, page: Path = PAGE) -> argparse.ArgumentParser:
    """The command line of a script with this docstring, which may write to a page."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    into = page.relative_to(DOCS.parent)
    parser.add_argument("--write-docs", action="store_true", help=f"into {into}")
    return parser


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def setting(command: str, *packages: str) -> str:
    """Where, when, with what and how the figures of a section were measured."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"Measured with `{command}` on {machine()}; {version_line(*packages)}; {date}."


def section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *parts]) + "\n"


def publish(title: str, *parts: str, write: bool) -> None:
    """Print a section, and put it in its place on the page if asked to."""
    text = section(title, *parts)
    print(text)
    if write:
        page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else INTRO
        PAGE.write_text(replaced(page, title, text), encoding="utf-8")
        print(f"wrote {PAGE}", file=sys.stderr)


def replaced(page: str, title: str, text: str) -> str:
    """The page with the section of this title replaced, or added at its end."""
    head, *sections = page.split("\n## ")
    kept = [s.rstrip("\n") for s in sections]
    new = text.removeprefix("## ").rstrip("\n")
    names = [s.split("\n", 1)[0] for s in kept]
    if title in names:
        kept[names.index(title)] = new
    else:
        kept.append(new)
    return "\n\n## ".join([head.rstrip("\n"), *kept]) + "\n"

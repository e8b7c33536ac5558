"""Figures beside their targets, as Markdown."""

from dataclasses import dataclass, field

from pyloric_db.summary import wilson


@dataclass(frozen=True)
class Figure:
    """One measured figure; `passed` is None where there is no target to meet."""

    what: str
    measured: str
    target: str = ""
    passed: bool | None = None

    @property
    def verdict(self) -> str:
        return {None: "", True: "pass", False: "**FAIL**"}[self.passed]


@dataclass
class Section:
    """A check: what was done, its figures, further tables and remarks."""

    title: str
    intro: str
    figures: list[Figure] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def add(self, what: str, measured: str, target: str = "", passed: bool | None = None) -> None:
        self.figures.append(
            Figure(what, measured, target, None if passed is None else bool(passed))
        )

    def markdown(self) -> str:
        rows = [[f.what, f.measured, f.target, f.verdict] for f in self.figures]
        parts = [f"## {self.title}", self.intro]
        if rows:
            parts.append(table(["", "measured", "target", ""], rows))
        return "\n\n".join([*parts, *self.extra])


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def percent(x: float, digits: int = 2) -> str:
    return f"{100 * x:.{digits}f}%"


def share(k: int, n: int) -> str:
    """A share and its 95% Wilson interval."""
    low, high = wilson(k, n)
    return f"{100 * k / n:.2f}% [{100 * low:.2f}, {100 * high:.2f}]"

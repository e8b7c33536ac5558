"""Measure how right the package is, and write docs/validation.md.

    .venv/bin/python validation/validate.py [--quick] [--out FILE] [--reference DIR]

Exit code 1 if a target is missed.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import checks
from batches import Pool
from cells import cells_of_2003
from others import other_circuits
from prior import prior_of_2020
from report import Section, table
from warm import other_temperatures

from pyloric_db.pipeline.machine import cores, machine, version_line

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"

INTRO = """# Validation

How far the numbers of this package can be trusted: figures measured by `make validate`, beside
their targets. The reference data in `validation/reference/` were made with independent programs
(float64 RK4; a float32 program of the same model; the mackelab simulator `pyloric`); nothing was
tuned to them.
"""


def setting_table(args: argparse.Namespace, command: str, seconds: float) -> str:
    return table(
        ["", ""],
        [
            ["machine", f"{machine()}; {args.workers} processes"],
            ["versions", version_line("jax", "jaxlib", "numpy")],
            ["command", f"`{command}`"],
            ["run time", f"{seconds / 60:.1f} minutes"],
            ["date", time.strftime("%Y-%m-%d", time.gmtime())],
        ],
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reference", type=Path, default=HERE / "reference", metavar="DIR",
                        help="folder of the reference data")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="the report (docs/validation.md; none with --quick)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="512 circuits instead of 8,192")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: cores)")
    args = parser.parse_args()
    if args.out is None and not args.quick:
        args.out = DOCS / "validation.md"
    return args


def main() -> int:
    args = arguments()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    figure = args.out.with_name("validation_shares.png") if args.out else None
    sections: list[Section] = []
    with Pool(args.workers) as pool:
        at = checks.Setting(
            reference=args.reference,
            pool=pool,
            n_circuits=512 if args.quick else 8192,
            n_per_phase=256 if args.quick else 4096,
            say=say,
        )
        single: list[Callable[[checks.Setting], Section]] = [
            checks.first_second, checks.periods, checks.abpd_alone, checks.mackelab,
        ]  # fmt: skip
        sections += [check(at) for check in single]
        sections += checks.grid_sample(at)
        sections.append(checks.thermal_phases(at, figure))
        sections.append(cells_of_2003(at))
        sections.append(prior_of_2020(at))
        sections.append(other_temperatures(at))
        sections.append(other_circuits(at))
    failed = [f for s in sections for f in s.figures if f.passed is False]
    met = sum(f.passed is True for s in sections for f in s.figures)
    command = " ".join(["python", os.path.relpath(sys.argv[0], HERE.parent), *sys.argv[1:]])
    summary = f"**{met} of {met + len(failed)} targets met.**"
    if failed:
        summary += " Missed: " + "; ".join(f.what for f in failed) + "."
    text = "\n\n".join(
        [
            INTRO + "\n" + summary,
            setting_table(args, command, time.monotonic() - began),
            *(s.markdown() for s in sections),
        ]
    )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
        say(f"wrote {args.out}")
    else:
        print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

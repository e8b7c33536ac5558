"""What is in a database, so that two of them can be compared."""

import json
from pathlib import Path
from typing import Any

#: What differs between two builds of one recipe.
_TIMELY = ("seconds", "kernel_seconds", "finished_at", "sum")


def contents(path: Path) -> dict[str, Any]:
    """Every file by name: its bytes, of the ledger the rows in order without their times."""
    found: dict[str, Any] = {
        p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()
    }
    rows = [json.loads(line) for line in found["ledger.jsonl"].splitlines()]
    found["ledger.jsonl"] = [{k: v for k, v in r.items() if k not in _TIMELY} for r in rows]
    return found

"""What a database is of, in words for the head of a page."""

from typing import Any

from pyloric_db.store.manifest import Manifest

#: Ranges of ids that are listed.
_LISTED = 3


def heading(manifest: Manifest) -> str:
    """The recipe's description, behind what was selected of its circuits; "" where it has none.

    A recipe describes all its circuits, of which a build may have taken a sample or a part.
    """
    description = str(manifest.recipe.get("description", ""))
    chosen = " of ".join(_selected(manifest.selection))
    if not chosen:
        return description
    whole = f"{chosen} of: {description}" if description else chosen
    return whole[0].upper() + whole[1:]


def _selected(selection: dict[str, Any]) -> list[str]:
    """What was selected, the last step first; each chooses among what the next leaves."""
    steps = []
    if "ids" in selection:
        steps.append(f"circuits {_ranges(selection['ids'])}")
    if "limit" in selection:
        steps.append(f"the first {_number(selection['limit'])}")
    if "sample" in selection:
        seed = selection.get("seed", 0)
        steps.append(f"a random sample of {_number(selection['sample'])} (seed {seed})")
    return steps


def _ranges(ids: Any) -> str:
    """The ranges of ids as `--ids` takes them, or what else stands in their place."""
    try:
        texts = [f"{start}:{stop}" for start, stop in ids]
    except (TypeError, ValueError):
        return str(ids)
    more = f" and {len(texts) - _LISTED:,} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)

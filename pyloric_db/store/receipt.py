"""What a worker returns of a shard: a few numbers and checksums, never arrays."""

from dataclasses import dataclass

from pyloric_db.store.files import FileSum


@dataclass(frozen=True)
class Receipt:
    """A written shard.

    `counts` maps each status to its number of circuits, and `pyloric_like` and `pyloric`,
    where the table has them, to theirs. `seconds`, and `kernel_seconds` of them for integrating,
    are for whoever ran the whole task to fill in; so is `finished_at`, unless that is when the
    shard is recorded.
    """

    shard: int
    n_circuits: int
    first_id: int
    last_id: int
    files: tuple[FileSum, ...]
    counts: dict[str, int]
    seconds: float = 0.0
    kernel_seconds: float = 0.0
    finished_at: str | None = None

"""What a worker returns of a shard: a few numbers and checksums, never arrays."""

from dataclasses import dataclass

from pyloric_db.store.files import FileSum


@dataclass(frozen=True)
class Receipt:
    """A written shard.

    `counts` maps each status to its number of circuits, and `pyloric_like` and `pyloric`,
    where the table has them, to theirs. `seconds` is what writing took, and `kernel_seconds` 0;
    whoever ran the whole task may replace them by its time and that of integrating in it.
    """

    shard: int
    n_circuits: int
    first_id: int
    last_id: int
    files: tuple[FileSum, ...]
    counts: dict[str, int]
    seconds: float
    kernel_seconds: float = 0.0

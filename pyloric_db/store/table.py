"""The feature table: NumPy columns to Parquet, with units, and null where there is no meaning."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.store.files import FEATURES_DIR, Files
from pyloric_db.store.manifest import SCHEMA_VERSION, Manifest
from pyloric_db.vocabulary import Column

ROW_GROUP = 100_000

Array = npt.NDArray[Any]


def part_name(shard: int) -> str:
    """Path, below the database, of a shard's Parquet file."""
    return f"{FEATURES_DIR}/part-{shard:06d}.parquet"


def arrow_schema(manifest: Manifest) -> Any:
    """The `pyarrow.Schema` of the feature table."""
    import pyarrow as pa

    texts = {"string": pa.string(), "category": pa.dictionary(pa.int8(), pa.string())}
    return pa.schema(
        [
            pa.field(
                c.name,
                texts.get(c.kind) or pa.from_numpy_dtype(np.dtype(c.kind)),
                nullable=c.nullable,
                metadata=c.attrs,
            )
            for c in manifest.columns
        ],
        metadata={"schema_version": str(SCHEMA_VERSION), "recipe_hash": manifest.recipe_hash},
    )


def encode_part(manifest: Manifest, columns: Mapping[str, Array]) -> bytes:
    """The bytes of a shard's Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(manifest)
    fields = zip(manifest.columns, schema, strict=True)
    arrays = [_arrow(columns[c.name], c, field.type) for c, field in fields]
    sink = io.BytesIO()
    text = [c.name for c in manifest.columns if c.kind in ("string", "category")]
    floats = [c.name for c in manifest.columns if c.kind in ("float32", "float64")]
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema),
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=3,
        use_dictionary=text,
        use_byte_stream_split=floats,
        write_page_checksum=True,
    )
    return sink.getvalue()


def read_part(files: Files, manifest: Manifest, shard: int) -> Any:
    """A shard's columns as a `pyarrow.Table`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(
        pa.BufferReader(files.read(part_name(shard))), schema=arrow_schema(manifest)
    )


def _arrow(values: Array, column: Column, kind: Any) -> Any:
    """One column as Arrow. ValueError if it holds what its `Column` excludes."""
    import pyarrow as pa

    missing = _missing(values, column)
    if not column.nullable and missing.any():
        raise ValueError(f"column {column.name} has {missing.sum()} nulls but is not nullable")
    if column.kind == "category":
        return _dictionary(values, column, missing, kind)
    if column.kind == "string":
        return pa.array(values.astype(object), kind, mask=missing)
    if column.kind == "bool" and values.dtype != np.bool_:
        raise ValueError(f"column {column.name} must be bool, not {values.dtype}")
    if column.kind in ("float32", "float64", "bool"):
        exact = values.astype(column.kind, copy=False)
    else:
        exact = np.where(missing, 0, values).astype(column.kind)
        if not np.array_equal(exact[~missing], values[~missing]):
            raise ValueError(f"column {column.name} does not fit {column.kind}")
    return pa.array(exact, kind, mask=missing)


def _missing(values: Array, column: Column) -> npt.NDArray[np.bool_]:
    if column.kind in ("string", "category"):
        return np.asarray(values == "", dtype=np.bool_)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.zeros(len(values), dtype=np.bool_)


def _dictionary(values: Array, column: Column, missing: Array, kind: Any) -> Any:
    import pyarrow as pa

    codes = np.full(len(values), -1, dtype=np.int8)
    for code, category in enumerate(column.categories):
        codes[values == category] = code
    unknown = (codes < 0) & ~missing
    if unknown.any():
        raise ValueError(
            f"column {column.name} has {values[unknown][0]!r}, "
            f"which is none of {', '.join(column.categories)}"
        )
    # always all categories, so that equal values give equal bytes
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, mask=missing), pa.array(column.categories, pa.string())
    ).cast(kind)

"""Rows of a query as a file of their own: Parquet, CSV, NetCDF or Zarr, with their units.

Parquet has units and long names as metadata of its fields, NetCDF and Zarr as attributes. CSV has
no place for them: they stand in `FILE-metadata.json` beside it, as the W3C recommendation
"Metadata Vocabulary for Tabular Data" names and shapes such a file.
"""

import json
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyloric_db.errors import ConfigError, DatabaseError, first_line
from pyloric_db.vocabulary import CIRCUIT
from pyloric_db.whole import written_whole

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr

#: Formats, and the suffix that says them.
SUFFIXES = {"parquet": ".parquet", "csv": ".csv", "netcdf": ".nc", "zarr": ".zarr"}

#: Rows that are text at a time.
_ROWS_AT_ONCE = 10_000

_ORDER = "columns"
_CONTEXT = "http://www.w3.org/ns/csvw"
_UNIT = "http://qudt.org/schema/qudt/unit"
#: Types of CSV on the Web by NumPy's.
_DATATYPES = {
    "bool": "boolean", "int8": "byte", "int16": "short", "int32": "int", "int64": "long",
    "uint8": "unsignedByte", "uint16": "unsignedShort", "uint32": "unsignedInt",
    "uint64": "unsignedLong", "float32": "float", "float64": "double", "object": "string",
}  # fmt: skip
_DTYPES = {datatype: dtype for dtype, datatype in _DATATYPES.items()}


def save_rows(
    rows: "xr.Dataset | Iterator[xr.Dataset]", path: str | Path, file_format: str | None = None
) -> None:
    """Writes what `Database.query`, `Database.nearest` or `Database.batches` returned.

    Args:
        rows: columns over dim `circuit`, or several of such; of their attributes the `name` is
            kept. Parquet and CSV are written as they come, NetCDF and Zarr once all are there.
        path: the file (Zarr: the directory, which must not exist yet).
        file_format: `parquet`, `csv`, `netcdf` or `zarr`; by the suffix if not said.

    Raises:
        ConfigError: these are no such rows, the format is none of these or knows no column of
            such values, the path cannot be written, or h5netcdf (the extra `netcdf`) is missing.
    """
    pieces: Iterator[Any] = rows if isinstance(rows, Iterator) else iter([rows])
    first = next(pieces, None)
    _check_rows(first)
    assert first is not None
    every = chain([first], pieces)
    path = Path(path)
    chosen = _format_of(path) if file_format is None else file_format
    if chosen not in SUFFIXES:
        raise ConfigError(f"the format must be one of {', '.join(SUFFIXES)}, not {chosen!r}")
    with written_whole(path, new=chosen == "zarr") as work:
        if chosen == "parquet":
            import pyarrow.parquet as pq

            schema = arrow_table(first).schema
            with pq.ParquetWriter(work, schema, compression="zstd") as writer:
                for piece in every:
                    writer.write_table(arrow_table(piece))
        elif chosen == "csv":
            with work.open("w") as opened:
                opened.writelines(csv_pieces(map(arrow_table, every)))
            if work != path:  # which is no pipe or terminal
                file = path.resolve()
                text = json.dumps(_csv_metadata(first, file.name), indent=2) + "\n"
                with written_whole(_beside(file)) as described:
                    described.write_text(text)
        elif chosen == "netcdf":
            _joined(every).to_netcdf(work, engine=_netcdf_engine(), mode="w")
        else:
            # a Zarr group does not keep the order of its arrays
            ordered = _joined(every).assign_attrs({_ORDER: list(map(str, first.data_vars))})
            with warnings.catch_warnings():
                # an extension of Zarr v3 that xarray asks for
                warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
                ordered.to_zarr(work, mode="w-", zarr_format=3, consolidated=True)


def _check_rows(rows: Any) -> None:
    import xarray as xr

    wanted = "what can be saved are rows as `query` or `nearest` returns them"
    if not isinstance(rows, xr.Dataset):
        raise ConfigError(f"{wanted}: an xarray Dataset, not {type(rows).__name__}")
    for name in ("circuit_id", *map(str, rows.data_vars)):
        if name not in rows.variables:
            raise ConfigError(f"{wanted}: these have no {name}")
        if rows[name].dims != (CIRCUIT,):
            raise ConfigError(
                f"{wanted}: {name} has the dimensions {rows[name].dims}, not {CIRCUIT} alone"
            )


def _joined(pieces: "Iterable[xr.Dataset]") -> "xr.Dataset":
    """All rows, whose text says that it is text: of no rows, objects would be taken for numbers."""
    import xarray as xr

    rows = xr.concat(pieces, CIRCUIT)
    rows = rows.drop_attrs(deep=False).assign_attrs(_name_of(rows))
    text = np.dtypes.StringDType()
    return rows.assign({n: v.astype(text) for n, v in rows.items() if v.dtype.kind in "OU"})


def load_rows(path: str | Path) -> "xr.Dataset":
    """Reads what `save_rows` wrote: columns over dim `circuit` with their units.

    Raises:
        ConfigError: the suffix is none of `.parquet`, `.csv`, `.nc` and `.zarr`.
        DatabaseError: the file is not there, or is none of ours.
    """
    path = Path(path)
    chosen = _format_of(path)
    if not path.exists():
        raise DatabaseError(f"{path} does not exist")
    try:
        if chosen == "parquet":
            import pyarrow.parquet as pq

            return _dataset(pq.read_table(path, partitioning=None))
        if chosen == "csv":
            return _from_csv(path)
        return _from_arrays(path, chosen)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DatabaseError(f"{path} cannot be read: {first_line(err)}") from err


def arrow_table(rows: "xr.Dataset") -> "pa.Table":
    """Rows as Arrow, null for NaN and for the empty text, units as metadata of the fields."""
    import pyarrow as pa

    names = ["circuit_id", *map(str, rows.data_vars)]
    arrays = [_arrow(rows[name].values) for name in names]
    fields = [
        pa.field(n, a.type, metadata={k: str(v) for k, v in rows[n].attrs.items()})
        for n, a in zip(names, arrays, strict=True)
    ]
    return pa.table(arrays, schema=pa.schema(fields, metadata=_name_of(rows)))


def _name_of(rows: "xr.Dataset") -> dict[str, str]:
    """What is kept of the attributes of rows."""
    return {"name": str(rows.attrs["name"])} if "name" in rows.attrs else {}


def csv_pieces(tables: "Iterable[pa.Table]") -> Iterator[str]:
    """Tables as one CSV: a header, then a line for each row, some at a time; null is empty."""
    import io

    import pyarrow.csv

    header = True
    for table in tables:
        for begin in range(0, max(1, table.num_rows), _ROWS_AT_ONCE):
            sink = io.BytesIO()
            options = pyarrow.csv.WriteOptions(include_header=header)
            pyarrow.csv.write_csv(table.slice(begin, _ROWS_AT_ONCE), sink, options)
            header = False
            yield sink.getvalue().decode()


def _arrow(values: Any) -> Any:
    import pyarrow as pa

    if values.dtype.kind == "f":
        return pa.array(values, mask=np.isnan(values))
    if values.dtype.kind in "OU":
        return pa.array([str(v) or None for v in values], pa.string())
    return pa.array(values)


def _dataset(table: "pa.Table") -> "xr.Dataset":
    """The inverse of `arrow_table`."""
    import xarray as xr

    variables = {}
    for field in table.schema:
        attrs = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        attrs = {k: v for k, v in attrs.items() if k in ("units", "long_name")}
        variables[field.name] = (CIRCUIT, _numpy(table[field.name]), attrs)
    coords = {"circuit_id": variables.pop("circuit_id")}
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return xr.Dataset(variables, coords, {k: v for k, v in metadata.items() if k == "name"})


def _numpy(values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(values.type) or pa.types.is_null(values.type):
        return np.array(pc.fill_null(values.cast(pa.string()), "").to_pylist(), dtype=object)
    array = values.to_numpy()
    return array.astype(bool) if pa.types.is_boolean(values.type) else array


def _csv_metadata(rows: "xr.Dataset", name: str) -> dict[str, Any]:
    columns = [
        {
            "name": n,
            "titles": n,
            "dc:description": rows[n].attrs.get("long_name", ""),
            "datatype": _datatype(rows[n]),
            _UNIT: rows[n].attrs.get("units", "1"),
        }
        for n in ("circuit_id", *map(str, rows.data_vars))
    ]
    return {
        "@context": _CONTEXT,
        "url": name,
        "dc:title": str(rows.attrs.get("name", "")),
        "tableSchema": {"columns": columns, "primaryKey": "circuit_id"},
    }


def _datatype(column: "xr.DataArray") -> str:
    found = "string" if column.dtype.kind == "U" else _DATATYPES.get(str(column.dtype))
    if found is None:
        raise ConfigError(f"CSV has no type for {column.name}, which holds {column.dtype}")
    return found


def _from_csv(path: Path) -> "xr.Dataset":
    import pyarrow as pa
    import pyarrow.csv

    beside = _beside(path.resolve())
    if not beside.exists():
        raise DatabaseError(f"{path} has no {beside.name} beside it, which says the units")
    described = json.loads(beside.read_text())
    columns = described["tableSchema"]["columns"]
    types = {c["name"]: _arrow_type(_DTYPES[c["datatype"]]) for c in columns}
    options = pyarrow.csv.ConvertOptions(
        column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    table = pyarrow.csv.read_csv(path, convert_options=options)
    fields = [
        pa.field(
            c["name"],
            types[c["name"]],
            metadata={"units": c[_UNIT], "long_name": c["dc:description"]},
        )
        for c in columns
    ]
    schema = pa.schema(fields, metadata={"name": described["dc:title"]})
    return _dataset(table.select([f.name for f in fields]).cast(schema))


def _arrow_type(dtype: str) -> Any:
    import pyarrow as pa

    return pa.string() if dtype == "object" else pa.from_numpy_dtype(np.dtype(dtype))


def _from_arrays(path: Path, file_format: str) -> "xr.Dataset":
    import xarray as xr

    if file_format == "netcdf":
        with xr.open_dataset(path, engine=_netcdf_engine()) as opened:
            rows = opened.load()
    else:
        with xr.open_zarr(path, chunks=None, consolidated=False) as opened:
            rows = opened.load()
        rows = rows[["circuit_id", *rows.attrs.pop(_ORDER)]]
    for name in rows.variables:
        if rows[name].dtype.kind in "OUT":
            attrs = rows[name].attrs
            rows[name] = (CIRCUIT, np.array(rows[name].values, dtype=object), attrs)
    return rows.drop_encoding()


def _netcdf_engine() -> Any:
    if find_spec("h5netcdf") is None:
        raise ConfigError("NetCDF needs h5netcdf: install pyloric-db with the extra 'netcdf'")
    return "h5netcdf"


def _format_of(path: Path) -> str:
    for file_format, suffix in SUFFIXES.items():
        if path.suffix.lower() == suffix:
            return file_format
    raise ConfigError(f"{path} must end in one of {', '.join(SUFFIXES.values())}")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}-metadata.json")

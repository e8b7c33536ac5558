"""A circuit as people name it: by its id or its netcode."""

from pyloric_db.errors import QueryError
from pyloric_db.query.database import Database


def find_circuit(db: Database, name: str) -> int:
    """The id of a circuit given as a whole number or, where circuits have them, a netcode.

    Raises:
        QueryError: it is neither, or there is no such circuit.
    """
    has_netcodes = "netcode" in db.manifest.by_name
    if not (name.isascii() and name.isdigit()):
        allowed = "a whole number or a netcode" if has_netcodes else "a whole number"
        raise QueryError(f"{name!r} is no circuit id: give {allowed}")
    if len(name) == 10 and has_netcodes:
        found = db.query(f"netcode == '{name}'", columns=["netcode"])["circuit_id"].values
        if not len(found):  # of ids none is so long
            raise QueryError(f"no circuit of the database has the netcode {name}")
        return int(found[0])
    if len(name) > 18:  # more than a database can hold
        raise QueryError(f"circuit {name} is not in the database")
    db.parameters([int(name)])  # QueryError where there is no such circuit
    return int(name)

"""The files of a database: manifest, ledger, shards of states and features, verification.

One shard is one task: whole Zarr shards and one Parquet file, which no other task writes. A
shard exists once its row stands in the ledger, never because its files do.
"""

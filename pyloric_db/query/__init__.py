"""Asking a database: lazy columns, hypercubes, states, expressions and SQL. Loads no JAX."""

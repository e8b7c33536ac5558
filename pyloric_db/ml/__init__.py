"""Arrays for machine learning from a database, and exports of them. Loads no JAX."""

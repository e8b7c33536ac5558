"""A page on this machine to explore a database in: linked histograms, density, traces."""

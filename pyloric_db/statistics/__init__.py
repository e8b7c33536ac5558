"""What a set of circuits has in common: combinations, marginals, correlations, connectedness."""

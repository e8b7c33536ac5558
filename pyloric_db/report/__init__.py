"""One page that says what a database is, how it was built and what it found."""

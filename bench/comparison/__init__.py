"""A side-by-side run of two servers: what is run, how, and what it says."""

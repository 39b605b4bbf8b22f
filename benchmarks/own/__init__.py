"""``python -m benchmarks own``: the storage designs on a sample of the user's own data, which is only read."""

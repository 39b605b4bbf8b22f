"""Stores: one tier's bytes each. What a store can do is proved by ``datalayer.testing.StoreTests``."""

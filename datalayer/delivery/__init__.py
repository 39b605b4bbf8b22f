"""Deliveries: copies of a committed output at the destinations that its context names."""

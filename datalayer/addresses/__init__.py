"""Logical addresses of task outputs, and the physical locations they map to."""

"""From a key to bytes: which attempt is committed, and the fastest tier that can serve it."""

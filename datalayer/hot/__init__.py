"""The hot tier's verbs: warm, pin, unpin, evict, status; the ledger they keep; and a workflow's reads, which drive them."""

"""The commit protocol: claim, stage, verify, commit. Readers see a complete, verified output of the winning attempt, or nothing."""

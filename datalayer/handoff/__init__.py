"""The hand-over between whoever starts a job and the job, in any language: context, directories, signals, report."""

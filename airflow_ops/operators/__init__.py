"""The operators: a job in any image, and Spark."""

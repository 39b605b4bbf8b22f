"""What Spark and its JVM raise, and the one line of it that a person needs."""

from __future__ import annotations

import contextlib


def spark_errors() -> tuple[type[Exception], ...]:
    """Return the classes of what PySpark raises for a failure in the JVM or of its own."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    return PySparkException, Py4JError


def reason(error: BaseException) -> str:
    """Return the first line of what went wrong, the JVM's own where there is one."""
    thrown = getattr(error, "java_exception", None)
    if thrown is not None:
        # The JVM may be gone by now.
        with contextlib.suppress(*spark_errors(), OSError):
            return _first_line(str(thrown.toString()))
    return _first_line(str(error)) or type(error).__name__


def is_missing_file(error: BaseException) -> bool:
    """Whether the failure is that a file or folder is not there."""
    text = str(error)
    return "PATH_NOT_FOUND" in text or "FILE_NOT_EXIST" in text or "java.io.FileNotFoundException" in text


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]

"""What Spark and its JVM raise, and the one line of it that a person needs."""

from __future__ import annotations

import contextlib

_DEEPEST = 20
_WRAPPER = "org.apache.spark.SparkException"


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
            # That a job was aborted is no reason: what it wraps is.
            while thrown.getClass().getName() == _WRAPPER and thrown.getCause() is not None:
                thrown = thrown.getCause()
            return _first_line(str(thrown.toString()))
    return _first_line(str(error)) or type(error).__name__


def spark_failure(error: BaseException) -> Exception | None:
    """Return what Spark raised, where that is an exception or what led to it."""
    seen: BaseException | None = error
    for _ in range(_DEEPEST):
        if seen is None or isinstance(seen, spark_errors()):
            return seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def words(error: BaseException) -> str:
    """Return all that Spark and its JVM say of a failure, with what led to it."""
    said = [str(error)]
    thrown = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    # The JVM may be gone by now.
    with contextlib.suppress(*spark_errors(), OSError):
        for _ in range(_DEEPEST):
            if thrown is None:
                break
            said.append(str(thrown.toString()))
            thrown = thrown.getCause()
    return "\n".join(said)


def is_missing_file(error: BaseException) -> bool:
    """Whether the failure is that a file or folder is not there."""
    text = str(error)
    return "PATH_NOT_FOUND" in text or "FILE_NOT_EXIST" in text or "java.io.FileNotFoundException" in text


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]

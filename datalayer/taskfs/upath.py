"""``TaskUPath``: what ``UPath("task://…")`` gives. universal-pathlib finds it by its entry point; nothing else imports it."""

from __future__ import annotations

from upath import UPath


class TaskUPath(UPath):
    """A path of the ``task://`` file system; all of ``UPath`` that reads works on it."""

    __slots__ = ()

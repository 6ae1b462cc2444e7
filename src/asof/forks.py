"""Forks of this process: hooks of what is open, before one and after it, in the parent and in the child.

A child starts with a copy of its parent's memory, but without its threads, and shares its files and sockets. So it must
not use, free or wait for what the parent has open; it opens its own.
"""

from __future__ import annotations

import ctypes
import gc
import os
import weakref

FORK_WAIT_S = 10.0
"""How long a fork waits for other threads that use what must not be open in both processes."""


class ForkListener:
    """Something open that a fork concerns. Each method does nothing by default, and must not raise."""

    def before_fork(self) -> None:
        """Close what must not be open in both processes. Called in the thread that forks."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Replace locks, which threads of the parent may have held, and begin without anything open."""


_listeners: weakref.WeakSet[ForkListener] = weakref.WeakSet()


def listen_to_forks(listener: ForkListener) -> None:
    """Call the listener's methods at each fork from now on, as long as it is in use."""
    _listeners.add(listener)


def leave_to_parent(*objects: object) -> None:
    """Never free these objects of the parent in this child, also not at its end.

    Freeing them would wait for threads that the child does not have, or say goodbye to a server on a socket that the
    parent is using.
    """
    for each in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


def _before() -> None:
    for each in list(_listeners):
        each.before_fork()


def _after_in_parent() -> None:
    for each in list(_listeners):
        each.after_fork_in_parent()


def _after_in_child() -> None:
    # What was garbage of the parent and not yet collected stays: some libraries crash where they free it without their
    # threads.
    gc.freeze()
    for each in list(_listeners):
        each.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)

__all__ = ["FORK_WAIT_S", "ForkListener", "leave_to_parent", "listen_to_forks"]

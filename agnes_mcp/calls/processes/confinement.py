"""What the operating system denies a worker process, beside what DuckDB denies its SQL.

Everything here is taken where the platform offers it, and what was taken is reported. On Linux: no network, no writing
and no executing of files, limits on address space, CPU and files, death with the server.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIGKILL = 9

#: Kept back from the address space: pages of libraries that become resident only while a query runs.
LIBRARY_PAGES_BYTES = 32 * 1024 * 1024
OPEN_FILES = 512
#: How much a worker gives way: the server's event loop, which everybody waits for, comes before one caller's query.
NICENESS = 5


def confine_process(*, networked: bool = False) -> dict[str, bool]:
    """Give up what a worker does not need; call before any thread is started. Returns what was given up.

    `networked`: its work is elsewhere, and what it loads for that may have to be written first; see `deny_writing`.
    """
    if sys.platform != "win32":
        os.nice(NICENESS)
    if sys.platform != "linux":
        return {"dies_with_server": _watch_parent(), "no_network": False, "no_writing": False}
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return {
        "dies_with_server": libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0) == 0,
        "no_network": not networked and _leave_network(libc),
        "no_writing": not networked and _deny_writing(libc),
    }


def deny_writing() -> bool:
    """No more writing, nor starting of programs, by this thread and those that it starts from now on."""
    if sys.platform == "win32":
        return False
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return sys.platform == "linux" and _deny_writing(ctypes.CDLL(None, use_errno=True))


def _watch_parent() -> bool:
    """Where the system does not end a process with its parent, a thread does."""
    if not hasattr(os, "getppid") or sys.platform == "win32":
        return False
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    return True


def _leave_network(libc: Any) -> bool:
    """A network namespace of its own has no way out; without privilege it takes a user namespace as well."""
    return bool(libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


# linux/landlock.h: the rights of a file system, by the version of the interface that brought them.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_EXECUTE_WRITE = (1 << 0) | (1 << 1)
_REMOVE_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14


def _deny_writing(libc: Any) -> bool:
    """Landlock: an empty set of rules denies every right it handles, whatever file it is about; reading stays."""
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = _EXECUTE_WRITE | _REMOVE_MAKE | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    ruleset = _Ruleset(rights)
    handle = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if handle < 0:
        return False
    denied = libc.syscall(_LANDLOCK_RESTRICT_SELF, handle, 0) == 0
    os.close(handle)
    return bool(denied)


def limit_resources(memory_bytes: int, *, writes: bool = False) -> bool:
    """Bound the process at its present address space plus `memory_bytes`; True where the system enforces that.

    `writes`: it may still write files, until `deny_writing`.
    """
    if sys.platform == "win32":
        return False
    import resource

    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: OPEN_FILES}
    if not writes:
        limits[resource.RLIMIT_FSIZE] = 0  # of files; a pipe has no size
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    if sys.platform != "linux":
        return False
    bound = _memory_pages(0) + memory_bytes - LIBRARY_PAGES_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    return True


def limit_cpu(seconds: int) -> None:
    """End the process by SIGXCPU when it has used this much more CPU time than until now."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def address_space_bytes() -> int:
    """What of the bound on address space is taken; 0 where there is none."""
    return _memory_pages(0) if sys.platform == "linux" else 0


def _memory_pages(field: int) -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[field]) * os.sysconf("SC_PAGE_SIZE")


def release_memory() -> None:
    """Give freed memory back to the system, where the allocator keeps it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # glibc has it, musl does not
            trim(0)

"""What a process gives up before it reads a hostile file (Linux)."""

import ctypes
import os
import resource
import signal
from collections.abc import Collection
from pathlib import Path

_PAGE_BYTES = resource.getpagesize()
_OPEN_FILES = 16
_NOBODY = 65534
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000  # include/uapi/linux/sched.h
_CLONE_NEWNET = 0x40000000


class SystemCalls:
    """The C library's calls that Python lacks, looked up once."""

    def __init__(self) -> None:
        """Look them up."""
        library = ctypes.CDLL(None, use_errno=True)
        self._prctl, self._unshare = library.prctl, library.unshare
        self._prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)

    def prctl(self, option: int, value: int) -> None:
        """Change a property of this process.

        Raises:
            OSError: The kernel refuses.
        """
        if self._prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")

    def unshare(self, namespaces: int) -> bool:
        """Move this process into new namespaces; False where the kernel does not allow it."""
        return bool(self._unshare(namespaces) == 0)


def give_up_rights(calls: SystemCalls, *, kept: Collection[int], parent: int) -> None:
    """Keep the descriptors `kept`, and nothing that reaches others.

    As root this process becomes nobody, so that it reads no secret. It starts no process, opens
    few files, has no network where the kernel can take it away, and ends with its parent.

    Args:
        calls: Looked up by the parent.
        kept: Descriptors, ascending.
        parent: The id of the process to end with.

    Raises:
        OSError: A right could not be given up; this process must not go on.
    """
    _close_all_but(kept)
    alone = os.geteuid() == 0 and calls.unshare(_CLONE_NEWNET)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    calls.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if not alone:
        calls.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    calls.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # last, because a change of user undoes it
    if os.getppid() != parent:
        raise ProcessLookupError("the parent ended")
    for limit, value in (
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def limit_use(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound processor time and what the address space may grow by."""
    mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES
    limit = mapped_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def _close_all_but(kept: Collection[int]) -> None:
    first = 0
    for descriptor in sorted(kept):
        if first < descriptor:  # Python 3.11 takes (0, 0) for all
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))

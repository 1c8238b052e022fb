"""What a process gives up before it reads a hostile file (Linux)."""

import ctypes
import os
import resource
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = resource.getpagesize()
_OPEN_FILES = 16
_NOBODY = 65534
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000  # include/uapi/linux/sched.h
_CLONE_NEWNET = 0x40000000
_LANDLOCK_CREATE_RULESET = 444  # the same on every architecture
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1  # a flag that asks for it
# Rights by the version of Landlock that knows them, include/uapi/linux/landlock.h.
_LANDLOCK_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_LANDLOCK_NETWORK_RIGHTS = {4: 0b11}  # bind and connect by TCP
_LANDLOCK_SCOPES = {6: 0b11}  # abstract sockets and signals


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the kernel let a process give up.

    Attributes:
        network: No network at all.
        files: No file can be opened.
        user: It runs as nobody.
    """

    network: bool
    files: bool
    user: bool


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`."""

    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class SystemCalls:
    """The C library's calls that Python lacks, looked up once."""

    def __init__(self) -> None:
        """Look them up."""
        library = ctypes.CDLL(None, use_errno=True)
        self._prctl, self._unshare = library.prctl, library.unshare
        self._prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
        self._syscall = library.syscall
        self._syscall.restype = ctypes.c_long

    def prctl(self, option: int, value: int) -> None:
        """Change a property of this process.

        Raises:
            OSError: The kernel refuses.
        """
        if self._prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")

    def forbid_files(self) -> bool:
        """Let this process open no file from now on; False where the kernel cannot (before 5.13).

        Landlock, https://docs.kernel.org/userspace-api/landlock.html: a ruleset that handles every
        right and allows none. Newer kernels also forbid TCP and signals to others.
        """
        version = self._syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
        if version < 1:
            return False
        handled = _Ruleset(
            files=_rights(_LANDLOCK_FILE_RIGHTS, version),
            network=_rights(_LANDLOCK_NETWORK_RIGHTS, version),
            scoped=_rights(_LANDLOCK_SCOPES, version),
        )
        size = ctypes.sizeof(handled)  # the kernel takes a longer one if what it lacks is zero
        ruleset = self._syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(handled), size, 0)
        if ruleset < 0:
            return False
        refused = self._syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0)
        os.close(ruleset)
        return bool(refused == 0)

    def unshare(self, namespaces: int) -> bool:
        """Move this process into new namespaces; False where the kernel does not allow it."""
        return bool(self._unshare(namespaces) == 0)


def give_up_rights(calls: SystemCalls, *, kept: Collection[int], parent: int) -> Confinement:
    """Keep the descriptors `kept`, and nothing that reaches others.

    As root this process becomes nobody, so that it reads no secret. It starts no process and ends
    with its parent; it opens no file and has no network where the kernel can take these away.

    Args:
        calls: Looked up by the parent.
        kept: Descriptors, ascending.
        parent: The id of the process to end with.

    Returns:
        What the kernel took away.

    Raises:
        OSError: A right could not be given up; this process must not go on.
    """
    _close_all_but(kept)
    alone = os.geteuid() == 0 and calls.unshare(_CLONE_NEWNET)
    nobody = os.geteuid() == 0
    if nobody:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    calls.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if not alone:
        alone = calls.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
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
    return Confinement(network=alone, files=calls.forbid_files(), user=nobody)


def limit_use(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound processor time and what the address space may grow by."""
    mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES
    limit = mapped_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def _rights(by_version: Mapping[int, int], version: int) -> int:
    return sum(rights for since, rights in by_version.items() if since <= version)


def _close_all_but(kept: Collection[int]) -> None:
    first = 0
    for descriptor in sorted(kept):
        if first < descriptor:  # Python 3.11 takes (0, 0) for all
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))

"""Whom servers run as that refuse to be root."""

import os
import pwd
from pathlib import Path
from typing import TypedDict


class Identity(TypedDict, total=False):
    """Arguments of `subprocess` that set a child's account."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged_account() -> str | None:
    """Return the account that PostgreSQL must run as, None for the present one."""
    return "nobody" if os.geteuid() == 0 else None


def identity(account: str | None) -> Identity:
    """Return what makes a child run as `account`; nothing for the present one."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_to(account: str | None, path: Path) -> None:
    """Make `account` the owner of a file; nothing for the present one."""
    if account is not None:
        entry = pwd.getpwnam(account)
        os.chown(path, entry.pw_uid, entry.pw_gid)

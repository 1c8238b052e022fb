"""What a measurement ran on, so that nobody compares figures of two machines unawares."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "sha_ni", "aes")
"""What the embedder, token verification and TLS are faster with."""

_PACKAGES = (
    "uvicorn", "uvloop", "httptools", "fastapi", "pydantic", "orjson", "asyncpg", "redis",
    "pyreqwest", "ray", "dagster", "openvino", "tokenizers", "numpy",
)  # fmt: skip


def describe() -> dict[str, str]:
    """Return what the machine is and what is installed, by name."""
    facts = _processor()
    return {
        "processor": facts.get("model name", platform.machine()),
        "flags": " ".join(flag for flag in _FLAGS if flag in facts.get("flags", "").split()),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": ", ".join(_versions()),
    }


def _processor() -> dict[str, str]:
    """Return what the kernel says of the first processor."""
    first, *_ = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _versions() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # an environment with fewer extras
            continue
    return found

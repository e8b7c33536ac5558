"""The machine that figures were measured on, in words."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dask.system import CPU_COUNT

import pyloric_db


def cores() -> int:
    """Cores that this process may use; Dask knows of a container's limits, too."""
    return int(CPU_COUNT)


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    import llvmlite.binding as llvm

    return str(llvm.get_host_cpu_name())  # such as apple-m1


def memory_GiB() -> float:
    """All memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def machine() -> str:
    """Processor, cores, memory and system in one line."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{processor()}, {cores()} cores, {memory_GiB():.0f} GiB of memory, {system}"


def version_line(*packages: str) -> str:
    """Versions of this package, Python and installed packages in one line."""
    found = [f"pyloric-db {pyloric_db.__version__}", f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)

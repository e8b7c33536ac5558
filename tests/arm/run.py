"""Builds a database on 64-bit ARM, which QEMU emulates, and compares it with this machine's.

    PYTHONPATH=tests python -m arm.run

A Debian for ARM is made in `.bench/arm64`, with the wheels of what the package needs; it is kept
for the next time (1.6 GB). Every file has to be the same to the byte. Needs root on Debian.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from contents import contents

REPOSITORY = Path(__file__).parents[2]
SYSTEM = REPOSITORY / ".bench/arm64"
CODENAME, PYTHON = "bookworm", "3.11"
#: What a Debian of this age can load, newest first.
PLATFORMS = [f"manylinux_2_{n}_aarch64" for n in (36, 34, 31, 28, 27, 24, 17)]
BUILD = ["build", "demo", "--limit", "16", "--workers", "1", "--out"]
#: These tell of the machine and the day.
NOT_COMPARED = {"database.json", "ledger.jsonl"}


def run(*command: Any, **options: Any) -> None:
    done = subprocess.run([str(word) for word in command], **options)
    if done.returncode:
        sys.exit(f"exit code {done.returncode} of {' '.join(map(str, command))}")


def install() -> None:
    """QEMU, which then runs programs for ARM as if they were this machine's."""
    if not shutil.which("qemu-aarch64-static") or not shutil.which("debootstrap"):
        packages = ["qemu-user-static", "binfmt-support", "debootstrap"]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "install", "--yes", "--quiet", *packages, env=quiet)
    if not Path("/proc/sys/fs/binfmt_misc/register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc")
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        run("update-binfmts", "--import", "qemu-aarch64")


def make_system() -> None:
    """The Debian, whole or not at all, and this package as it is now."""
    if not SYSTEM.exists():
        partial = SYSTEM.with_name("arm64.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        options = ["--arch=arm64", "--variant=minbase", "--include=python3"]
        run("debootstrap", *options, CODENAME, partial)
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        fitting = [f"--platform={name}" for name in PLATFORMS]
        run(
            sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts",
            "--target", partial / "site", *fitting, "--only-binary=:all:",
            f"--python-version={PYTHON}", *project["dependencies"],
        )  # fmt: skip
        partial.rename(SYSTEM)
    shutil.rmtree(SYSTEM / "code", ignore_errors=True)
    for name in ("pyloric_db", "pipelines", "schemas", "cluster"):
        shutil.copytree(REPOSITORY / name, SYSTEM / "code" / name)


def on_arm(command: list[str]) -> None:
    """Runs the command there; what is mounted for it goes with it."""
    mounts = f"mount -t proc proc {SYSTEM}/proc && mount --bind /dev {SYSTEM}/dev"
    program = "PYTHONPATH=/code:/site HOME=/root exec python3 -m pyloric_db"
    inside = f"exec chroot {SYSTEM} sh -c '{program} {' '.join(command)}'"
    run("unshare", "--mount", "sh", "-c", f"{mounts} && {inside}", stdin=subprocess.DEVNULL)


def main() -> None:
    install()
    make_system()
    shutil.rmtree(SYSTEM / "root/db", ignore_errors=True)
    on_arm([*BUILD, "/root/db"])
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "pyloric_db", *BUILD, f"{folder}/db", stdout=subprocess.DEVNULL)
        here, there = contents(Path(folder) / "db"), contents(SYSTEM / "root/db")
    assert here.keys() == there.keys(), here.keys() ^ there.keys()
    differing = [n for n in here if n not in NOT_COMPARED and here[n] != there[n]]
    assert not differing, f"differ from this machine's: {', '.join(differing)}"
    print(f"{len(here) - len(NOT_COMPARED)} files, the same bytes as on this machine")


if __name__ == "__main__":
    main()

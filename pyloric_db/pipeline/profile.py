"""Cluster profiles: a TOML file that says where a build runs."""

import os
import re
import shutil
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from pyloric_db.errors import ConfigError, nearest
from pyloric_db.pipeline.machine import cores
from pyloric_db.pipeline.toml_files import Table, packaged_texts, read_toml, sentence

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(pattern=r"^[^\n]+$")]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]


class _Profile(Table):
    """What every profile may say.

    `shard_limit_minutes`: a shard that takes longer hangs; its worker is restarted and the shard
    tried again. `circuits_per_s_per_worker`: a rate measured with `pyloric-db bench`, from which
    `plan` says how long a build takes.
    """

    shard_limit_minutes: Positive = 240.0
    circuits_per_s_per_worker: Positive | None = None


class LocalProfile(_Profile):
    """Worker processes on this machine, one thread each; one per core if not said."""

    kind: Literal["local"]
    workers: int | None = Field(None, ge=1)


class LocalGpuProfile(_Profile):
    """Worker processes for the GPUs of this machine; `gpus` as in CUDA_VISIBLE_DEVICES.

    Workers that share a GPU keep it busy: while one integrates, others analyse and write.
    """

    kind: Literal["local-gpu"]
    gpus: tuple[int | Text, ...] | None = Field(None, strict=False, min_length=1)
    workers_per_gpu: int = Field(1, ge=1)


class SlurmProfile(_Profile):
    """Jobs of a Slurm partition, each with worker processes of one core, which share its GPU.

    Workers leave between `lifetime_margin_minutes` and that plus twice `lifetime_stagger_minutes`
    before the walltime of their job is over. `interface` is the network that nodes and
    coordinator share. In `shared_directory` the nodes read the certificates of this run;
    `log_directory` gets what the jobs print.
    """

    kind: Literal["slurm"]
    jobs: int = Field(ge=1)
    workers_per_job: int = Field(ge=1)
    memory_per_worker_gib: Positive
    walltime_minutes_per_job: Positive
    lifetime_stagger_minutes: float = Field(10.0, ge=0, allow_inf_nan=False)
    lifetime_margin_minutes: float = Field(5.0, ge=0, allow_inf_nan=False)
    gpus_per_job: Literal[0, 1] = 0
    partition: Text | None = None
    account: Text | None = None
    interface: Text | None = None
    directives: Texts = ()
    prologue: Texts = ()
    python: Text | None = None
    shared_directory: Text = "~"
    log_directory: Text = "slurm-logs"
    local_directory: Text | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SlurmProfile":
        leave = self.lifetime_margin_minutes + 2 * self.lifetime_stagger_minutes
        if leave >= self.walltime_minutes_per_job:
            raise ValueError(
                f"walltime_minutes_per_job is {self.walltime_minutes_per_job:g}, but must be "
                "more than lifetime_margin_minutes and twice lifetime_stagger_minutes together"
            )
        return self

    @property
    def lifetime_minutes(self) -> float:
        """Mean time after which a worker leaves."""
        margin = self.lifetime_margin_minutes + self.lifetime_stagger_minutes
        return self.walltime_minutes_per_job - margin


class SchedulerProfile(_Profile):
    """A running Dask scheduler, with TLS unless it listens on loopback."""

    kind: Literal["scheduler"]
    address: str = Field(pattern=r"^(tcp|tls)://[\w.\[\]:-]+:\d+$")
    tls_ca_file: Text | None = None
    tls_client_cert: Text | None = None
    tls_client_key: Text | None = None

    @model_validator(mode="after")
    def _encrypted(self) -> "SchedulerProfile":
        files = [self.tls_ca_file, self.tls_client_cert, self.tls_client_key]
        if self.address.startswith("tls://"):
            if None in files:
                raise ValueError(
                    "a tls:// address needs tls_ca_file, tls_client_cert and tls_client_key"
                )
        elif not is_loopback(self.address):
            raise ValueError(
                f"{self.address} is not on loopback, and whoever can speak to a scheduler can run "
                "anything on its workers: start it with TLS, and give its tls:// address"
            )
        elif any(files):
            raise ValueError("certificates need a tls:// address")
        return self


Profile = LocalProfile | LocalGpuProfile | SlurmProfile | SchedulerProfile

_ANY: TypeAdapter[Profile] = TypeAdapter(Annotated[Profile, Field(discriminator="kind")])
_KINDS: dict[str, type[Profile]] = {
    "local": LocalProfile,
    "local-gpu": LocalGpuProfile,
    "slurm": SlurmProfile,
    "scheduler": SchedulerProfile,
}


def is_loopback(address: str) -> bool:
    """Whether a Dask address (protocol://host:port) never leaves this machine."""
    host = re.sub(r"^\w+://|:\d+$", "", address).strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def packaged_profiles() -> dict[str, str]:
    """Names and texts of the profiles that come with the package."""
    return packaged_texts("cluster")


def load_profile(profile: "str | Path | dict[str, Any] | Profile") -> Profile:
    """A profile by packaged name, TOML file, parsed TOML, or as it is.

    Raises:
        ConfigError: there is none, it is not TOML, or it is not valid; one sentence.
    """
    if isinstance(profile, _Profile):
        return profile
    return _validated(*read_toml(profile, "cluster profile", packaged_profiles()))


def _validated(content: dict[str, Any], where: str, folder: Path) -> Profile:
    """The profile; its certificates are named from the file's own folder."""
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        said = "the key kind is missing" if kind is None else f"kind is {kind!r}"
        raise ConfigError(
            f"{where}: {said}, but must be one of {', '.join(_KINDS)}"
            f"{nearest(str(kind), list(_KINDS))}"
        )
    try:
        profile = _KINDS[kind].model_validate(content)
    except ValidationError as err:
        keys = list(_KINDS[kind].model_fields)
        raise ConfigError(f"{where}: {sentence(err, lambda place: keys)}") from err
    if isinstance(profile, SchedulerProfile) and profile.tls_ca_file:
        names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
        files = {name: str((folder / getattr(profile, name)).resolve()) for name in names}
        for name, file in files.items():
            if not Path(file).is_file():
                raise ConfigError(f"{where}: {name} names {file!r}, which is no file")
        profile = profile.model_copy(update=files)
    return profile


def profile_schema() -> dict[str, Any]:
    """The JSON schema of a profile."""
    return _ANY.json_schema()


def n_workers(profile: Profile) -> int | None:
    """Worker processes of a profile's cluster; None where that is not ours to know."""
    if isinstance(profile, LocalProfile):
        return profile.workers or cores()
    if isinstance(profile, LocalGpuProfile):
        return profile.workers_per_gpu * len(visible_gpus(profile))
    if isinstance(profile, SlurmProfile):
        return profile.jobs * profile.workers_per_job
    return None


def visible_gpus(profile: LocalGpuProfile) -> tuple[str, ...]:
    """The GPUs that a profile means, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        ConfigError: there are none.
    """
    if profile.gpus is not None:
        return tuple(map(str, profile.gpus))
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        named = [gpu.strip() for gpu in said.split(",") if gpu.strip()]
        found = named[: named.index("-1")] if "-1" in named else named  # as CUDA reads it
    elif shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
        n = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
        found = [str(i) for i in range(n)]
    else:
        found = []
    if not found:
        raise ConfigError("no GPU is visible: CUDA_VISIBLE_DEVICES and nvidia-smi name none")
    return tuple(found)

"""The configuration of the service: one root, built by the command line and passed down.

Every setting can come from the environment, ``LATTICEWATCH_INGEST__SOURCES='["tcp://127.0.0.1:5555"]'``, or from a
TOML file; the command line wins over the environment, and the environment over the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from latticewatch.elements import parse_material
from latticewatch.errors import ConfigurationError
from latticewatch.origins import check_environment, meant, names_of


class Section(BaseModel):
    """A part of the configuration; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VirtualDetector(Section):
    """A ring on a pixelated detector that makes a picture of the scan out of diffraction frames."""

    scan: tuple[Annotated[int, Field(ge=2, le=16384)], Annotated[int, Field(ge=2, le=16384)]] = Field(
        description="Rows and columns of the scan."
    )
    centre: tuple[float, float] | None = Field(
        default=None,
        description="Row and column of the direct beam [px]; the middle of the detector by default.",
    )
    inner_px: float = Field(default=0.0, ge=0, description="Inner radius of the ring.")
    outer_px: float | None = Field(default=None, gt=0, description="Outer radius; by default to the corners.")


class IngestSettings(Section):
    """Where frames come from and what happens when they come too fast."""

    sources: tuple[str, ...] = Field(
        default=("tcp://127.0.0.1:5555",),
        min_length=1,
        max_length=16,
        description="Addresses; with the name of the microscope before them where there are several, NAME=ADDRESS.",
    )
    socket: Literal["sub", "pull", "req"] = Field(
        default="sub", description="``req`` asks a karabo bridge for each train."
    )
    bind: bool = Field(default=False, description="Bind the socket instead of connecting it.")
    mode: Literal["latest", "lossless"] = Field(
        default="latest", description="Drop the oldest waiting frame when full, or hold the sender back."
    )
    queue_frames: int = Field(default=4, ge=1, le=1024, description="Frames that may wait to be analysed.")
    backlog_mib: int = Field(
        default=512,
        ge=0,
        le=65536,
        description="Frames that may wait instead while the service starts or discovers classes [MiB].",
    )
    max_frame_mib: int = Field(default=256, ge=1, le=4096)
    stall_after_s: float = Field(default=5.0, gt=0, le=3600)
    pixel_size_nm: float | None = Field(default=None, gt=0, description="Used where the header gives none.")
    virtual_detector: VirtualDetector | None = Field(
        default=None,
        description="For pixelated detectors, which send a diffraction frame for each place of the scan.",
    )
    images_are_frames: bool = Field(
        default=False, description="Images of a pixelated detector are frames of a lattice, no diffraction."
    )
    karabo_path: str | None = Field(
        default=None,
        max_length=256,
        description="The image in a karabo train, SOURCE or SOURCE[KEY]; by default the only one.",
    )
    detector: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Analyse the frames of this detector; without it, those of the first one of each series.",
    )
    rotation_deg: float = Field(
        default=0.0, ge=-360, le=360, description="Rotation of the scan, used where the header gives none."
    )
    flip_x: bool = Field(default=False, description="Columns count up against the stage's x axis.")
    flip_y: bool = Field(default=False, description="Rows count up against the stage's y axis.")
    dose_e_per_a2: float | None = Field(
        default=None, gt=0, description="Dose of a frame, used where the header gives none [electrons/Å²]."
    )
    one_microscope: bool = Field(
        default=False,
        description="Several sources carry frames of one microscope, and are analysed as one stream; otherwise each is "
        "a microscope of its own, see `latticewatch.microscopes`.",
    )
    curve_key: Path | None = Field(
        default=None,
        description="Our CURVE key pair, NAME.key_secret: ZeroMQ is encrypted, and others are refused.",
    )
    curve_peers: Path | None = Field(
        default=None,
        description="Public CURVE keys of the senders, a file or a folder of *.key; nobody else is let in.",
    )

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if (self.curve_key is None) != (self.curve_peers is None):
            raise PydanticCustomError("curve", "curve_key and curve_peers are given together, or neither")
        return self


class AnalysisSettings(Section):
    """How a frame is analysed."""

    patch_size: Annotated[int, Field(ge=3, le=1024)] | Literal["auto"] = Field(
        default="auto", description="Diameter of the patches [px]."
    )
    n_max: int = Field(default=10, ge=2, le=20, description="Highest Zernike order.")
    invariant: bool = Field(
        default=False, description="Orientations and mirror images of a motif are one class."
    )
    learning_frames: int = Field(
        default=5, ge=1, le=100, description="Frames gathered before classes are discovered."
    )
    false_events_per_hour: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="Changes reported by mistake, at most and in the mean, at the rate of the frames and the number "
        "of sites that there are; less of them makes real changes wait longer.",
    )
    material: str | None = Field(
        default=None,
        max_length=64,
        description="Formula, or columns brightest first; behind a colon what it is doped with, as in WS2:Fe,Te. Names "
        "classes, and is compared with the lattice.",
    )
    model: Path | None = Field(
        default=None,
        description="A model to start from, as saved on another day; a restart goes on with what was learnt since.",
    )
    executor: str = Field(
        default="threads",
        pattern=r"^(threads|processes|dask://[^\s/:]+:\d{1,5})$",
        description="Where frames are analysed: threads of this process; processes of this machine, which take more "
        "memory and wait less for one another; or dask://HOST:PORT, a Dask scheduler.",
    )
    threads: int = Field(default=2, ge=1, le=64)
    frame_limit_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="A frame whose analysis takes longer is given up; less where frames usually take much less [s].",
    )
    seed: int = 0

    @field_validator("material")
    @classmethod
    def _material_is_readable(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_material(text)
            except ConfigurationError as error:
                raise PydanticCustomError("material", "{reason}", {"reason": str(error)}) from error
        return text


class ServeSettings(Section):
    """Where the service listens and who may talk to it."""

    http: str = Field(default="127.0.0.1:8765", pattern=r"^.+:\d{1,5}$")
    probes: str | None = Field(
        default=None,
        pattern=r"^.+:\d{1,5}$",
        description="Where /healthz and /readyz, and nothing else, are answered as well, from a thread of their own.",
    )
    read_key: SecretStr | None = None
    control_key: SecretStr | None = Field(default=None, description="Also grants what the read key grants.")
    keys_file: Path | None = Field(
        default=None, description="Hashes of further keys, a line each; read again whenever it changes."
    )
    tls_cert: Path | None = Field(
        default=None, description="Certificate (chain) in PEM: HTTPS and WSS instead of HTTP and WS."
    )
    tls_key: Path | None = Field(default=None, description="Its private key in PEM, without a password.")
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Origins beside our own that a browser may come from."
    )
    max_connections: int = Field(default=64, ge=1, le=4096)
    max_wait_s: float = Field(default=30.0, gt=0, le=300)
    instrument: str = Field(default="stem", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    log_format: Literal["text", "json"] = Field(
        default="text", description="The log on standard error: lines for people, or a JSON object a line."
    )


class RecordSettings(Section):
    """What is kept on disk."""

    data_dir: Path = Path("latticewatch-data")
    max_events: int = Field(
        default=10_000_000, ge=1000, description="The oldest events beyond this number are dropped."
    )
    max_age_days: float | None = Field(
        default=None, gt=0, description="Events older than this are dropped; none are without it [days]."
    )
    max_mib: float | None = Field(
        default=None,
        ge=1,
        description="The oldest events are dropped while the log holds more; any size is kept without it [MiB].",
    )
    recording: Path | None = Field(
        default=None, description="Folder in which frames and results are recorded; nothing is without it."
    )
    recording_frames: bool = Field(default=True, description="Record the images too, not the results alone.")
    recording_part_mib: int = Field(
        default=1024, ge=1, le=1_048_576, description="Size from which a new part is begun [MiB]."
    )
    recording_max_gib: float = Field(
        default=100.0, gt=0, description="The oldest parts beyond this size together are deleted [GiB]."
    )
    recording_max_days: float | None = Field(
        default=None, gt=0, description="Parts that ended longer ago are deleted; none are without it [days]."
    )
    recording_reserve_gib: float = Field(
        default=1.0,
        ge=0,
        description="Recording pauses where less than this is free on the disk: the event log comes first [GiB].",
    )


class MicroscopeSettings(Section):
    """What is other for one of several microscopes; what is not named here is as for all."""

    ingest: dict[str, Any] = Field(default={}, description="As in ``[ingest]``, but for the sources.")
    analysis: dict[str, Any] = Field(default={}, description="As in ``[analysis]``.")


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="LATTICEWATCH_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    ingest: IngestSettings = IngestSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    serve: ServeSettings = ServeSettings()
    record: RecordSettings = RecordSettings()
    microscopes: dict[str, MicroscopeSettings] = Field(
        default={}, description="By the names that ``ingest.sources`` gives; see `latticewatch.microscopes`."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, then environment, then file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None = None, **overrides: dict[str, Any]) -> Settings:
    """Build the configuration.

    Parameters
    ----------
    config : Path, optional
        TOML file with the sections ``[ingest]``, ``[analysis]``, ``[serve]`` and ``[record]``.
    **overrides : dict
        Values by section, from the command line; they win. ``None`` means not given.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigurationError
        A file that cannot be read, a name that is no setting, or a setting that cannot work, named with its limit.
    """

    class Loaded(Settings):
        model_config = SettingsConfigDict(**(Settings.model_config | {"toml_file": config}))  # type: ignore[typeddict-item]

    if config is not None:
        try:
            tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"{config}: {error.strerror or error}; give a readable TOML file"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{config}: not TOML: {error}") from error
    check_environment(names_of(Settings))
    given = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in overrides.items()
    }
    try:
        return Loaded(**{section: values for section, values in given.items() if values})  # type: ignore[arg-type]
    except SettingsError as error:
        raise ConfigurationError(f"{error}; sections and lists in the environment are JSON") from error
    except ValidationError as error:
        raise unfit(error) from error


def unfit(error: ValidationError, within: str = "") -> ConfigurationError:
    """What to say of settings that cannot work: the first of them, in one line.

    Parameters
    ----------
    error : ValidationError
    within : str, optional
        Where the settings that were looked at are, ``section.`` or more.

    Returns
    -------
    ConfigurationError
    """
    first = error.errors()[0]
    where = within + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigurationError(f"setting {where}: {meant(where, names_of(Settings))}")
    return ConfigurationError(f"setting {where}: {first['msg']} (got {first['input']!r})")

"""Settings: what the environment says, then the chosen profile of `cluster.yaml`, then defaults.

In: `MOTORIC_*` variables and `metadata.motoric.profiles` of `cluster.yaml`. Out: one frozen
`Settings`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from motoric.core.errors import SettingsError

_PLACEHOLDER = re.compile(r"CHANGE[-_]ME|<[^>]+>")


class Ports(BaseModel):
    """Ports people and tools dial; all others of the local platform are picked free at start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: int = Field(default=8000, ge=1, le=65535)
    grpc: int = Field(default=9000, ge=1, le=65535)
    dashboard: int = Field(default=8265, ge=1, le=65535)
    gcs: int = Field(default=6379, ge=1, le=65535)


class Profile(BaseModel):
    """One profile of `metadata.motoric.profiles`; `{home}` stands for `MOTORIC_HOME`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    storage_uri: str | None = None
    registry_uri: str | None = None
    accounts_uri: str | None = None
    ports: Ports = Ports()
    num_cpus: int | None = Field(default=None, ge=1, description="logical CPUs of the local head")
    num_gpus: int | None = Field(default=None, ge=0, description="logical GPUs of the local head")


class _ProfileSource(PydanticBaseSettingsSource):
    """The chosen profile as a source that the environment overrides."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        state = {**self.current_state}
        home = Path(str(state.get("home") or Path.home() / ".motoric")).expanduser().absolute()
        named = state.get("cluster_file")
        path = Path(str(named)) if named else Path("cluster.yaml")
        if not path.is_file():
            if named:
                raise SettingsError(f"MOTORIC_CLUSTER_FILE names {path}, which is not a file")
            return {}
        profile = read_profile(path, str(state.get("profile") or "local"))
        found = profile.model_dump(exclude_none=True, include=set(profile.model_fields_set))
        return {
            key: value.replace("{home}", str(home)) if isinstance(value, str) else value
            for key, value in found.items()
        }


def read_profile(path: Path, name: str) -> Profile:
    """Read one profile of a cluster definition.

    Raises:
        SettingsError: The file is not YAML, lacks the profile, has an unknown key or a placeholder.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    metadata = (content or {}).get("metadata") or {}
    profiles = (metadata.get("motoric") or {}).get("profiles") or {}
    if name not in profiles:
        known = ", ".join(profiles) or "none"
        raise SettingsError(
            f"{path} has no profile {name!r} under metadata.motoric.profiles (it has: {known})"
        )
    try:
        profile = Profile.model_validate(profiles[name] or {})
    except ValidationError as error:
        raise SettingsError(f"{path}, profile {name!r}: {describe(error)}") from error
    for key, value in profile:
        if isinstance(value, str) and _PLACEHOLDER.search(value):
            raise SettingsError(
                f"{path}, profile {name!r}: {key} is still the placeholder {value!r};"
                " put your own there"
            )
    return profile


def describe(error: ValidationError) -> str:
    """A pydantic error as one line: each wrong key, what is wrong, and the value."""
    parts = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"]) or "(top level)"
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key {place}")
        else:
            got = "" if isinstance(item["input"], dict) else f" (got {item['input']!r:.80})"
            parts.append(f"{place}: {item['msg'][:1].lower()}{item['msg'][1:]}{got}")
    return "; ".join(parts)


class Settings(BaseSettings):
    """Where things are.

    Every field can be set as `MOTORIC_<FIELD>`, a port as `MOTORIC_PORTS__HTTP`.
    """

    model_config = SettingsConfigDict(
        env_prefix="MOTORIC_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(
        default_factory=lambda: Path.home() / ".motoric", description="state of the local platform"
    )
    profile: str = "local"
    cluster_file: Path | None = None
    url: str | None = None
    api_key: SecretStr | None = None
    storage_uri: str = ""
    registry_uri: str = ""
    accounts_uri: str = ""
    ports: Ports = Ports()
    num_cpus: int | None = None
    num_gpus: int | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the profile."""
        return init_settings, env_settings, _ProfileSource(settings_cls)

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002
        """Fill what neither the environment nor a profile said."""
        home = self.home.expanduser().absolute()
        defaults: dict[str, object] = {
            "home": home,
            "storage_uri": self.storage_uri or str(home / "storage"),
            "registry_uri": self.registry_uri or f"sqlite:///{home}/registry/mlflow.db",
            "accounts_uri": self.accounts_uri or f"sqlite:///{home}/accounts/accounts.db",
            "url": (self.url or f"http://127.0.0.1:{self.ports.http}").rstrip("/"),
        }
        for name, value in defaults.items():
            object.__setattr__(self, name, value)

    @property
    def definition_file(self) -> Path:
        """The cluster definition: the one named, else `cluster.yaml` in the working directory."""
        return self.cluster_file or Path("cluster.yaml")

    @property
    def base_url(self) -> str:
        """The address of the endpoints, without a trailing slash."""
        assert self.url is not None
        return self.url

    def environment(self) -> dict[str, str]:
        """The variables that make another process see the same settings (no secrets among them)."""
        return {
            "MOTORIC_HOME": str(self.home),
            "MOTORIC_PROFILE": self.profile,
            "MOTORIC_STORAGE_URI": self.storage_uri,
            "MOTORIC_REGISTRY_URI": self.registry_uri,
            "MOTORIC_ACCOUNTS_URI": self.accounts_uri,
            "MOTORIC_URL": self.base_url,
        }


def load(**overrides: Any) -> Settings:
    """Read the settings now.

    Raises:
        SettingsError: A variable or the profile is wrong.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(f"settings: {describe(error)}") from error


def settings_folder() -> Path:
    """The user's own folder for what is not the platform's (`$XDG_CONFIG_HOME/motoric`)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "motoric"

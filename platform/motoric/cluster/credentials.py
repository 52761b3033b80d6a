"""The command line's own API keys: one file of the user, keyed by address, mode 600."""

from __future__ import annotations

import json
import os
from pathlib import Path

from motoric.core.errors import SettingsError
from motoric.core.settings import Settings, settings_folder


def credentials_path() -> Path:
    """Where the keys lie."""
    return settings_folder() / "credentials.json"


def read_key(settings: Settings) -> str | None:
    """The key for `settings.base_url`: `MOTORIC_API_KEY`, then the user's file, else None.

    Raises:
        SettingsError: The file is not what `store_key` writes.
    """
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    return _read().get(settings.base_url)


def store_key(url: str, secret: str) -> None:
    """Keep the key for an address; the file and its folder are closed to other users.

    Raises:
        SettingsError: The file is not what this function writes.
    """
    path = credentials_path()
    keys = _read() | {url.rstrip("/"): secret}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    # Never readable by others, not even between its making and a chmod.
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        json.dump(keys, stream, indent=1)
    partial.replace(path)


def _read() -> dict[str, str]:
    path = credentials_path()
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SettingsError(
            f"{path} is not valid JSON: {error}; remove it to start anew"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content.values()):
        raise SettingsError(f"{path} must map addresses to keys; remove it to start anew")
    return content

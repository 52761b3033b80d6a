"""Put one model on the running platform: release it, merge it into what Serve runs, wait for it.

In: a deployment file's content and a running platform. Out: the release that answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from motoric.artefact.files import load_artefact
from motoric.cluster.local import running
from motoric.cluster.serve_api import ServeApi
from motoric.cluster.state import PlatformState
from motoric.core.errors import PlatformError
from motoric.core.releases import Release
from motoric.core.settings import Settings
from motoric.registry.promotion import release
from motoric.registry.registry import RegisteredVersion, Registry
from motoric.serving.config import ModelDeployment, config_of, merge

_DEPLOY_TIMEOUT_S = 180.0
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.2


def require_running(settings: Settings) -> PlatformState:
    """The local platform that runs.

    Raises:
        PlatformError: None does.
    """
    state = running(settings)
    if state is None:
        raise PlatformError(f"no platform runs for {settings.home}: start one with `motoric up`")
    return state


def deploy(
    settings: Settings, deployment: ModelDeployment, on_change: Callable[[str], None]
) -> Release:
    """Deploy a model and wait until its endpoint serves the version that bears the alias.

    Other applications stay as they are.

    Args:
        settings: Where things are.
        deployment: From `deployments/models/<name>.yaml`.
        on_change: Told in a few words what happens.

    Raises:
        ArtefactError: The version is damaged; nothing was released.
        NotFoundError: The registry has no such model, or no version with the alias.
        PlatformError: No platform runs, or the endpoint does not come up.
    """
    state = require_running(settings)
    registry = Registry(settings.registry_uri, settings.storage_uri)
    found = registry.by_alias(deployment.model, deployment.alias)
    check_servable(found)
    made = release(settings.storage_uri, found, deployment.alias)
    on_change(f"released version {found.version} ({deployment.alias})")
    with ServeApi(state.dashboard_url, state.token_path) as api:
        api.put(merge(config_of(api.details()), deployment))
        api.wait_running([deployment.model], _DEPLOY_TIMEOUT_S, on_change)
    _wait_serving(settings, made)
    return made


def check_servable(found: RegisteredVersion) -> None:
    """Refuse a version that replicas could not load, before anything is released.

    Raises:
        ArtefactError: Its files are missing or were changed, or its signature is of another schema.
    """
    load_artefact(found.artefact_uri, found.digest)


def _wait_serving(settings: Settings, made: Release) -> None:
    url = f"{settings.base_url}/v1/models/{made.model}/healthz"
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    answer = "nothing"
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        while time.monotonic() < deadline_s:
            try:
                response = client.get(url)
                answer = response.text[:300]
                if response.is_success and response.json().get("digest") == made.primary.digest:
                    return
            except (httpx.HTTPError, ValueError) as error:
                answer = repr(error)
            time.sleep(_POLL_S)
    raise PlatformError(f"{url} does not serve version {made.primary.version}; it says: {answer}")

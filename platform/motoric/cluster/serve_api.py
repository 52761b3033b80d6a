"""Ray Serve's REST interface on the dashboard: what runs, what should run, and waiting for it.

In: the dashboard's address and the file of its token. Out: plain dictionaries as Ray gives them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx

from motoric.core.errors import MotoricError, PlatformError

_PATH = "/api/serve/applications/"
_POLL_S = 0.25
# The first PUT on a fresh cluster starts Serve's controller before it answers.
_PUT_TIMEOUT_S = 90.0
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


def _ignore(_change: str) -> None:
    return


class ServeApi:
    """A client of one cluster.

    Args:
        dashboard_url: `http://host:port` of the dashboard.
        token_path: File with the cluster's token; None where it has none.
    """

    def __init__(self, dashboard_url: str, token_path: Path | None) -> None:
        headers = {}
        if token_path is not None:
            headers["Authorization"] = f"Bearer {token_path.read_text().strip()}"
        self._url = dashboard_url
        # `trust_env=False`: a proxy of the environment must not see the token.
        self._client = httpx.Client(
            base_url=dashboard_url, headers=headers, timeout=30.0, trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> ServeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def details(self) -> dict[str, Any]:
        """Everything that Serve tells about itself.

        Raises:
            PlatformError: The dashboard does not answer.
        """
        found: dict[str, Any] = self._send("GET").json()
        return found

    def applications(self) -> dict[str, Any]:
        """Applications by name: `status`, `message`, `route_prefix`, `deployments`, ...

        Raises:
            PlatformError: The dashboard does not answer.
        """
        found: dict[str, Any] = self.details().get("applications") or {}
        return found

    def declared(self) -> list[dict[str, Any]]:
        """The declarations of the running applications, to be merged and put again."""
        configs = (app.get("deployed_app_config") for app in self.applications().values())
        return [config for config in configs if config]

    def put(self, config: dict[str, Any]) -> None:
        """Declare all applications; those that `config` does not name are removed.

        Raises:
            PlatformError: Serve refuses the configuration or does not answer.
        """
        self._send("PUT", json=config, timeout=_PUT_TIMEOUT_S)

    def wait_running(
        self,
        names: Iterable[str],
        timeout_s: float = 120.0,
        on_change: Callable[[str], None] = _ignore,
    ) -> None:
        """Wait until the named applications run.

        Args:
            names: Names of applications.
            timeout_s: How long to wait at most.
            on_change: Told `name: STATUS` each time a status changes.

        Raises:
            MotoricError: An application failed to deploy; with Serve's message.
            PlatformError: The time is up.
        """
        wanted = tuple(names)
        seen: dict[str, str] = {}
        deadline_s = time.monotonic() + timeout_s
        while True:
            applications = self.applications()
            for name in wanted:
                found = applications.get(name) or {}
                status = str(found.get("status", "NOT_STARTED"))
                if seen.get(name) != status:
                    seen[name] = status
                    on_change(f"{name}: {status}")
                if status in _FAILED:
                    raise MotoricError(f"application {name!r} is {status}: {explain(found)}")
            if all(status == "RUNNING" for status in seen.values()):
                return
            if time.monotonic() > deadline_s:
                waiting = "; ".join(
                    f"{name!r} is {status}: {explain(applications.get(name) or {})}"
                    for name, status in seen.items()
                    if status != "RUNNING"
                )
                raise PlatformError(f"after {timeout_s:.0f} s not all applications run: {waiting}")
            time.sleep(_POLL_S)

    def _send(self, method: str, **options: Any) -> httpx.Response:
        try:
            response = self._client.request(method, _PATH, **options)
        except httpx.HTTPError as error:
            raise PlatformError(
                f"the dashboard at {self._url} does not answer ({error!r}); `motoric up` starts one"
            ) from error
        if response.is_success:
            return response
        if response.status_code in (401, 403):
            raise PlatformError(
                f"the dashboard at {self._url} refuses this platform's token: does another Ray use "
                "this port? MOTORIC_PORTS__DASHBOARD chooses another"
            )
        raise PlatformError(
            f"Serve answered {response.status_code}: {response.text.strip()[:2000]}"
        )


def explain(application: dict[str, Any]) -> str:
    """The messages of an application and of its deployments that are not healthy, as one text."""
    messages = [str(application.get("message") or "")]
    messages += [
        f"deployment {name!r} is {deployment.get('status')}: {deployment.get('message')}"
        for name, deployment in (application.get("deployments") or {}).items()
        if deployment.get("status") != "HEALTHY" and deployment.get("message")
    ]
    return " ".join(message.strip() for message in messages if message.strip()) or "no message"

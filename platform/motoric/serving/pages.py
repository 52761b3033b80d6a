"""The API documentation page: Swagger UI from the assets of `fastapi_offline`, without a CDN."""

from __future__ import annotations

import html
import importlib.util
import json
from functools import lru_cache
from pathlib import Path

ASSET_TYPES = {
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "favicon.png": b"image/png",
}
ASSET_HEADERS = ((b"cache-control", b"public, max-age=86400"),)
HTML_TYPE = b"text/html; charset=utf-8"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{root}/docs/favicon.png">
<link rel="stylesheet" href="{root}/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{root}/docs/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  url: {url}, dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: true
}});
</script>
</body>
</html>
"""


def docs_page(title: str, root: str) -> bytes:
    """The page for the OpenAPI document at `root` + `/openapi.json`; assets: `root` + `/docs/`."""
    url = json.dumps(f"{root}/openapi.json").replace("<", "\\u003c")
    page = _PAGE.format(title=html.escape(title), root=html.escape(root, quote=True), url=url)
    return page.encode()


@lru_cache(maxsize=len(ASSET_TYPES))
def asset(name: str) -> bytes:
    """One file of Swagger UI.

    Raises:
        KeyError: No page uses a file of that name.
    """
    if name not in ASSET_TYPES:
        raise KeyError(name)
    # Found without importing the package, which would pull FastAPI in.
    spec = importlib.util.find_spec("fastapi_offline")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "static" / name).read_bytes()

"""What stands between the HTTP server of a Serve replica and Serve.

The environment of a head names `middlewares` as `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`.
"""

from starlette.middleware import Middleware

from motoric.serving.ingress.shortcut import ReadWhenAsked, Shortcut


def middlewares() -> list[Middleware]:
    """What Serve puts around every replica and proxy; the last one is outermost."""
    return [Middleware(ReadWhenAsked), Middleware(Shortcut)]

"""Errors that a person is meant to read.

    MotoricError                 something failed that is not the user's doing      exit 1, HTTP 500
    ├── UserError                the user can mend it; the message says how         exit 2, HTTP 400
    │   ├── SettingsError        cluster.yaml, the environment, a deployment file
    │   ├── RecipeError          a recipe that does not fit the schema or its data
    │   ├── CheckpointError      a checkpoint that is damaged, or of another run
    │   ├── DatasetError         a dataset that is missing, broken or too small
    │   │   ├── UnreadableError  a file of a recording that gives no usable sample or frame
    │   │   └── NoSamplesError   a sound file that by nature holds none: settings, workout plans
    │   ├── ArtefactError        an artefact that is missing, changed or unreadable
    │   ├── MalformedBodyError   a request body that is not what the protocol says        HTTP 400
    │   ├── InputError           windows of the wrong shape, or with NaN values           HTTP 422
    │   ├── NotFoundError        a model, version, file or run that does not exist        HTTP 404
    │   ├── TooLargeError        a request body over the limit                            HTTP 413
    │   ├── SlowBodyError        a request body that does not come to its end             HTTP 408
    │   ├── QueryError           a query that cannot be read                              HTTP 400
    │   ├── ContentTypeError     a request body of a type that nothing reads              HTTP 415
    │   ├── NotAcceptableError   an answer of a type that nothing writes                  HTTP 406
    │   ├── ForbiddenError       what nobody may ask for here, such as a URI elsewhere    HTTP 403
    │   └── AccessError          no API key, or a wrong one                               HTTP 401
    └── PlatformError            the platform cannot do it now                            HTTP 503
        └── DeadlineError        it was not the request's turn before its deadline        HTTP 504

The command line prints the message alone and exits with `exit_code`; HTTP answers RFC 9457 problem
JSON with `status`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MotoricError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What is wrong (the value), where, and how to mend it.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    kind: ClassVar[str] = "internal-error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def problem(self, instance: str | None = None) -> dict[str, Any]:
        """The error as an RFC 9457 problem document."""
        document: dict[str, Any] = {
            "type": f"urn:motoric:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.message,
        }
        if instance is not None:
            document["instance"] = instance
        return document


class UserError(MotoricError):
    """The user can mend it."""

    status = 400
    title = "Bad request"
    kind = "bad-request"
    exit_code = 2


class SettingsError(UserError):
    """A setting, `cluster.yaml` or a deployment file is wrong."""

    title = "Wrong settings"
    kind = "settings"


class RecipeError(UserError):
    """A recipe does not fit its schema or its dataset."""

    title = "Wrong recipe"
    kind = "recipe"


class CheckpointError(UserError):
    """A checkpoint is damaged, or of another recipe or other data."""

    title = "Unusable checkpoint"
    kind = "checkpoint"


class DatasetError(UserError):
    """A dataset is missing, broken or too small for what was asked."""

    title = "Unusable dataset"
    kind = "dataset"


class UnreadableError(DatasetError):
    """A file of a recording gives no usable sample or frame; ingest quarantines it."""

    title = "Unreadable file"
    kind = "unreadable"


class NoSamplesError(DatasetError):
    """A sound file that by its nature holds no samples; ingest counts it as skipped."""

    title = "No samples"
    kind = "no-samples"


class ArtefactError(UserError):
    """An artefact is missing, was changed, or cannot be read."""

    title = "Unusable artefact"
    kind = "artefact"


class MalformedBodyError(UserError):
    """A request body is not what the protocol says."""

    title = "Malformed body"
    kind = "malformed-body"


class InputError(UserError):
    """Windows do not fit the model's signature."""

    status = 422
    title = "Input does not fit the model"
    kind = "input"


class NotFoundError(UserError):
    """A model, version, file or run does not exist."""

    status = 404
    title = "Not found"
    kind = "not-found"


class TooLargeError(UserError):
    """A request body is over the limit."""

    status = 413
    title = "Body too large"
    kind = "too-large"


class SlowBodyError(UserError):
    """A request body does not come to its end."""

    status = 408
    title = "Request timeout"
    kind = "slow-body"


class QueryError(UserError):
    """The query of a request cannot be read."""

    title = "Wrong query"
    kind = "query"


class ContentTypeError(UserError):
    """Nothing reads a request body of its Content-Type."""

    status = 415
    title = "Unsupported media type"
    kind = "content-type"


class NotAcceptableError(UserError):
    """The client accepts none of the types in which an answer can be written."""

    status = 406
    title = "Not acceptable"
    kind = "not-acceptable"


class ForbiddenError(UserError):
    """The settings do not allow what was asked for."""

    status = 403
    title = "Not allowed"
    kind = "forbidden"


class AccessError(UserError):
    """No API key was sent, or it is unknown."""

    status = 401
    title = "API key needed"
    kind = "access"


class PlatformError(MotoricError):
    """The platform cannot do it now."""

    status = 503
    title = "Unavailable"
    kind = "unavailable"


class DeadlineError(PlatformError):
    """It was not a request's turn before its deadline."""

    status = 504
    title = "Deadline passed"
    kind = "deadline"

"""What an S3-compatible store says, in the words of our tree of errors, with what to do.

pyarrow raises ``OSError`` for all of it: the code and the operation stand in its text. Requests have ids of
their own, which are left out: a reason that never reads the same twice would look like a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..ports.errors import AutoRetrainError, Permanent, Temporary

_SAID = re.compile(r"AWS Error (?P<code>\w+) during (?P<operation>\w+) operation: ?(?P<text>.*)", re.DOTALL)
_REQUEST_ID = re.compile(r"\s*\(Request ID: [^)]*\)")
_LONGEST = 300

_PERMISSIONS = {
    "HeadObject": "s3:GetObject and s3:ListBucket",  # without the second, what is absent is refused, too
    "GetObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
}
_DENIED = {"ACCESS_DENIED"}
_NO_BUCKET = {"NO_SUCH_BUCKET"}
_NO_CREDENTIALS = {
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNRECOGNIZED_CLIENT",
    "INVALID_CLIENT_TOKEN_ID",
    "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN",
    "INCOMPLETE_SIGNATURE",
}
_AWAY = {"NETWORK_CONNECTION"}
_ELSEWHERE = re.compile(r"PermanentRedirect|AuthorizationHeaderMalformed|HTTP status 301|status code: 301")
_CREDENTIALS = (
    "the usual AWS credentials of the process (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or its role)"
)


class Absent(Permanent):
    """There is no such object."""


@contextmanager
def translated(uri: str, endpoint: str = "") -> Iterator[None]:
    """Raise what pyarrow raises as our own.

    Args:
        uri: The object or prefix that is asked for.
        endpoint: Address of the store, for messages; empty for AWS.

    Raises:
        Temporary: The store cannot be reached, is too slow or asks for less; or a local disk is full.
        Absent: There is no such object.
        Permanent: There is no such bucket, a permission is missing, credentials were refused.
    """
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        # The vendor's words may hold an address or a key: ours are written anew, and its error is not shown.
        raise _ours(error, uri, endpoint) from None


def _ours(error: Exception, uri: str, endpoint: str) -> AutoRetrainError:
    said = _SAID.search(str(error))
    if said:
        return _of_the_store(said["code"], said["operation"], _short(said["text"]), uri, endpoint)
    if isinstance(error, FileNotFoundError):
        return Absent(
            f"{uri} is not there: it has expired by a lifecycle rule or was deleted, or its bucket is gone"
        )
    if isinstance(error, OSError):
        return Temporary(f"{uri}: {_short(error.strerror or str(error))}")
    return Permanent(f"{uri} cannot be asked for: {_short(str(error))}")


def _of_the_store(code: str, operation: str, text: str, uri: str, endpoint: str) -> AutoRetrainError:
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if code in _NO_BUCKET:
        return Permanent(f"there is no bucket {bucket!r}: create it, or correct storage.url")
    if code in _DENIED:
        needed = _PERMISSIONS.get(operation, operation)
        # Refused credentials look the same where the answer has no body.
        or_else = f", or check {_CREDENTIALS}" if operation.startswith("Head") else ""
        return Permanent(f"{uri}: access denied: allow {needed} on it{or_else}")
    if code in _NO_CREDENTIALS:
        return Permanent(f"{uri}: the credentials were refused ({code}): check {_CREDENTIALS}")
    if _ELSEWHERE.search(text):
        return Permanent(f"the bucket {bucket!r} is in another region: set storage.region")
    if code in _AWAY:
        place = endpoint or "AWS"
        return Temporary(
            f"the object store cannot be reached at {place}: {text}; check storage.endpoint and the network"
        )
    return Temporary(f"{uri}: the object store answered {code} to {operation}: {text}")


def _short(text: str) -> str:
    line = " ".join(_REQUEST_ID.sub("", text).split())
    # How long a connection took changes from try to try.
    line = re.sub(r" after \d+ ms", "", line)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

"""What an S3-compatible store says, in the words of our tree of errors, with what to do.

pyarrow raises ``OSError`` for all of it: the code and the operation stand in its text. Requests have ids of
their own, which are left out: a reason that never reads the same twice would look like a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..ports.errors import AutoRetrainError, Permanent, Temporary

_SAID = re.compile(
    r"AWS Error (?P<code>\w+)(?: \(HTTP status (?P<status>\d+)\))? during (?P<operation>\w+) operation: ?"
    r"(?:Unable to parse ExceptionName: (?P<name>\S+) Message: )?(?P<text>.*)",
    re.DOTALL,
)
_REQUEST_ID = re.compile(r"\s*\(Request ID: [^)]*\)")
_KMS = re.compile(r"\bkms:[A-Za-z]+")
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
_NO_CREDENTIALS = {
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNRECOGNIZED_CLIENT",
    "INVALID_CLIENT_TOKEN_ID",
    "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN",
    "INCOMPLETE_SIGNATURE",
    "InvalidToken",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "EXPIRED_TOKEN"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_CREDENTIALS = (
    "the usual AWS credentials of the process (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or its role)"
)


class Absent(Permanent):
    """There is no such object."""


class Unexplained(Permanent):
    """Refused by an answer without a body, which a question about headers gets: the cause is not said."""


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
        return _of_the_store(said, uri, endpoint)
    if isinstance(error, FileNotFoundError):
        return Absent(
            f"{uri} is not there: it has expired by a lifecycle rule or was deleted, or its bucket is gone"
        )
    if isinstance(error, OSError):
        return Temporary(f"{uri}: {_short(error.strerror or str(error))}")
    return Permanent(f"{uri} cannot be asked for: {_short(str(error))}")


def _of_the_store(said: re.Match[str], uri: str, endpoint: str) -> AutoRetrainError:
    code, operation, text = said["name"] or said["code"], said["operation"], _short(said["text"])
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if code == "NETWORK_CONNECTION":
        return Temporary(
            f"the object store cannot be reached at {endpoint or 'AWS'}: {text}; "
            "check storage.endpoint and the network"
        )
    if code == "NO_SUCH_BUCKET":
        return Permanent(f"there is no bucket {bucket!r}: create it, or correct storage.url")
    if code in _ELSEWHERE or said["status"] == "301":
        return Permanent(f"the bucket {bucket!r} is in another region: set storage.region ({text})")
    if code == "ACCESS_DENIED":
        return _denied(operation, text, uri)
    if code in _EXPIRED:
        return Temporary(f"{uri}: the credentials have expired: renew {_CREDENTIALS}")
    if code in _NO_CREDENTIALS:
        return Permanent(f"{uri}: the credentials were refused ({code}): check {_CREDENTIALS}")
    if code.startswith("KMS."):
        return Permanent(f"{uri}: the bucket's key cannot be used: {code}: {text}")
    if operation.startswith("Head") and said["status"] == "400":
        return Unexplained(f"{uri}: the object store refuses the request: check {_CREDENTIALS}")
    answer = f"{code} (HTTP status {said['status']})" if said["status"] else code
    return Temporary(f"{uri}: the object store answered {answer} to {operation}: {text}")


def _denied(operation: str, text: str, uri: str) -> Permanent:
    if encryption := _KMS.search(text):
        what = f"allow {encryption[0]} on the key that encrypts the bucket"
        return Permanent(f"{uri}: access denied: {what} (the store says: {text})")
    denied = f"{uri}: access denied: allow {_PERMISSIONS.get(operation, operation)} on it"
    if operation.startswith("Head"):
        return Unexplained(f"{denied}, or check {_CREDENTIALS}")
    return Permanent(f"{denied} (the store says: {text})")


def _short(text: str) -> str:
    line = " ".join(_REQUEST_ID.sub("", text).split())
    # How long a connection took changes from try to try.
    line = re.sub(r" after \d+ ms", "", line)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

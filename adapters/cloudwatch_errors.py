"""What CloudWatch and the way to it can refuse, in our words.

Nothing that a vendor's error says about signatures or credentials is passed on: it repeats the headers of the
request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..ports.credentials import without_credentials
from ..ports.errors import Permanent, Temporary
from .retry_after import retry_after

PERMISSION = "the credentials lack the permission cloudwatch:GetMetricData; allow it in their IAM policy"

_IN_XML = re.compile(r"<Code>(\w+)</Code>")
_BUSY = {
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "429",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_LATE = {"RequestExpired", "RequestTimeTooSkewed"}
_REFUSED = {
    "AuthFailure",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotSignedUp",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_CLOCK = "the clock of this machine is wrong: set it by NTP"
_RENEW = "the AWS credentials have expired: renew them (aws sso login), or use a role, which renews its own"
_MISSING = (
    "there are no AWS credentials: give the process a role, or set AWS_PROFILE, "
    "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
# By the names of botocore's classes: what is not here may pass.
_LOCAL: Mapping[str, str] = {
    "NoCredentialsError": _MISSING,
    "NoAuthTokenError": _MISSING,
    "PartialCredentialsError": "the AWS credentials are incomplete: an access key and its secret go together",
    "ProfileNotFound": "there is no AWS profile of the name in AWS_PROFILE: correct it, or write the profile",
    "NoRegionError": "no AWS region is set: set cloudwatch.region, or AWS_DEFAULT_REGION",
    "InvalidRegionError": "the AWS region is no name of one: correct cloudwatch.region",
    "ConfigNotFound": "the file in AWS_CONFIG_FILE is not there",
    "ConfigParseError": "the AWS configuration file cannot be read: correct it",
    "InvalidConfigError": "the AWS configuration file cannot be used: correct it",
    "InfiniteLoopConfigError": "the AWS profiles refer to one another in a circle: correct them",
    "MissingDependencyException": "these AWS credentials need pip install 'botocore[crt]'",
    "UnauthorizedSSOTokenError": _RENEW,
    "SSOTokenLoadError": _RENEW,
    "TokenRetrievalError": _RENEW,
    "LoginRefreshRequired": _RENEW,
    "LoginTokenLoadError": _RENEW,
}


class Busy(Temporary):
    """CloudWatch asks for patience; the same request may be repeated after a while."""


class QueryRefused(Permanent):
    """CloudWatch does not take this request; another one may do."""


class UnusableAnswer(Exception):
    """CloudWatch answered, and nothing can be made of it; the text is the reason."""


def answered_error(error: Any, where: str) -> Temporary | Permanent | UnusableAnswer:
    """Our error for what a server of AWS answered.

    Args:
        error: A ``ClientError`` of botocore.
        where: Who was asked, for the text.
    """
    details, metadata = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(metadata.get("HTTPStatusCode", 0))
    headers = {str(name).lower(): str(value) for name, value in metadata.get("HTTPHeaders", {}).items()}
    text = str(details.get("Message") or "")
    if inner := _IN_XML.search(text):  # a body that boto3 has not read: of an emulator, or an older protocol
        code = inner[1]
    said = (
        f": {shortened(text)}" if text and not text.lstrip().startswith("<") else ""
    )  # no page of a proxy's
    if code in _BUSY or code.startswith("Internal") or status >= 500 or status == 429:
        return Busy(f"{where} is busy ({code or status})", _wait(headers))
    if code in _DENIED:
        return Permanent(f"{where}: {_permission(error.operation_name)}{said}")
    if code in _LATE or "Signature expired" in text or "Signature not yet current" in text:
        return Permanent(f"{where} refuses the request ({code}): {_CLOCK}")
    if code in _EXPIRED:
        return Permanent(f"{where}: {_RENEW}")
    if code in _REFUSED or status in (401, 403):
        return Permanent(
            f"{where} refuses the AWS credentials ({code}): they are wrong, or of another region"
        )
    if code in ("InvalidNextToken", "InvalidNextTokenException"):
        return UnusableAnswer(f"{where} has lost the rest of its answer")
    return QueryRefused(f"{where} refuses the query ({code or status}){said}")


def local_error(error: Exception, where: str) -> Temporary | Permanent | UnusableAnswer:
    """Our error for what went wrong before there was an answer, or while it was read.

    Args:
        error: Whatever botocore raised.
        where: Who was asked, for the text.
    """
    import botocore.exceptions
    from botocore.parsers import ResponseParserError

    names = [kind.__name__ for kind in type(error).__mro__]
    known = next((_LOCAL[name] for name in names if name in _LOCAL), None)
    if known is not None:
        return Permanent(known)
    if isinstance(error, botocore.exceptions.CredentialRetrievalError):
        provider = shortened(str(error.kwargs.get("provider", "")))
        return Temporary(f"the AWS credentials cannot be had from {provider}")
    if isinstance(error, botocore.exceptions.ParamValidationError):
        return QueryRefused(f"the query cannot be put to {where}: {shortened(str(error))}")
    if isinstance(error, ResponseParserError) or not isinstance(
        error, botocore.exceptions.BotoCoreError | botocore.exceptions.HTTPClientError
    ):
        # The parser raises whatever the bytes make of it.
        return UnusableAnswer(f"the answer of {where} is malformed")
    fix = "check the network, and cloudwatch.region or cloudwatch.endpoint_url"
    return Temporary(f"{where} cannot be reached: {type(error).__name__}; {fix}")


def shortened(text: str, limit: int = 300) -> str:
    """A text of the other side's, without secrets and not too long."""
    text = without_credentials(text)  # before the cut, which may leave half of one
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _permission(operation: str) -> str:
    if operation == "GetMetricData":
        return PERMISSION
    return f"the credentials may not {operation}; allow it to them, and them in the trust policy of the role"


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server wants to be left alone; ``None`` when it did not say."""
    milliseconds = headers.get("x-amz-retry-after", "")
    if milliseconds.isascii() and milliseconds.isdigit():
        return int(milliseconds[:15]) / 1000
    return retry_after(headers)

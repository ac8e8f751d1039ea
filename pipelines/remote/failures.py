"""What a failed request of obstore means.

In: an exception of obstore. Out: its cause in one line without secrets, whether a repeated request
can succeed, and what to do next.
"""

from __future__ import annotations

import os
import re

from slipform.pipelines.errors import printable

__all__ = ["NO_BUCKET", "advice", "cause_of", "is_final", "is_unknown"]

_STATUS = re.compile(r"status code: (\d{3})")
_ANSWER = re.compile(r"<Code>([^<]*)</Code>\s*(?:<Message>([^<]*)</Message>)?")
_QUERY = re.compile(r"\?[^\s\"')]+")  # of a URL: it may hold a signature
_NO_CONNECTION = re.compile(r"kind: Connect,.*?(?:message|error): \"([^\"]+)\"", re.DOTALL)
_TOO_SLOW = re.compile(r"kind: Timeout|TimedOut|operation timed out")
_REFUSED = re.compile(r"status 40[13]|AccessDenied|AccessKey|Signature|Token|privileges")
_REGION = re.compile(
    r"incorrectly configured region|region .* is wrong|PermanentRedirect|IllegalLocation"
    r"|AuthorizationHeaderMalformed|status 30\d"
)
_NO_SUCH_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound")
_NO_NAME = re.compile(r"dns error|lookup address|[Nn]ame or service not known")
_NO_RANGES = re.compile(r"non-partial response|Content-Range header")
_NO_CREDENTIALS = re.compile(
    r"Missing (?:Access|Secret)|must be specified|credential|token request", re.IGNORECASE
)
_FINAL = ("PermissionDenied", "Unauthenticated", "InvalidPath", "NotSupported", "Unknown")
_REPEATED = (408, 425, 429)  # timeouts and "too many requests"
NO_BUCKET = "Create the bucket first, or check its name"
# Where the credentials of each kind of store come from, and what is wrong most often.
_VARIABLES = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SKIP_SIGNATURE"),
    "az": (
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
    ),
}


def cause_of(error: Exception) -> str:
    """The cause in one line. Queries of URLs are left out.

    Args:
        error: An exception of obstore.
    """
    text = _without_debug(error)
    if answer := _ANSWER.search(text):
        lines = [part.splitlines()[0].rstrip(".") for part in answer.groups() if part]
        return printable(": ".join(lines))
    if status := _STATUS.search(text):
        return f"the server answered with status {status[1]}"
    if found := _NO_CONNECTION.search(str(error)):  # only the details have the words of the system
        return printable(f"no connection to the server: {found[1]}")
    if _TOO_SLOW.search(str(error)):
        return "the answer did not come, or not to its end, in time"
    line = text.splitlines()[0].rpartition(" - ")[2] if text else type(error).__name__
    return printable(_QUERY.sub("", line))[:300]


def is_final(error: Exception) -> bool:
    """Whether a repeated request fails again: no permission, no credentials, a wrong name.

    Args:
        error: An exception of obstore.
    """
    text = _without_debug(error)
    if _REGION.search(text):
        return True
    if status := _STATUS.search(text):
        return 400 <= int(status[1]) < 500 and int(status[1]) not in _REPEATED
    return type(error).__name__.startswith(_FINAL) or bool(_NO_CREDENTIALS.search(text))


def is_unknown(error: Exception) -> bool:
    """Whether the server does not know this kind of request.

    Args:
        error: An exception of obstore.
    """
    status = _STATUS.search(_without_debug(error))
    known = type(error).__name__ not in ("NotSupportedError", "NotImplementedError")
    return not known or (status is not None and status[1] == "501")


def advice(cause: str, url: str, no_bucket: bool = False) -> str:
    """What to do next.

    Args:
        cause: The cause, as `cause_of` gives it.
        url: The URL of the folder.
        no_bucket: Whether the answer means that the bucket does not exist.
    """
    scheme = url.partition(":")[0]
    if scheme in _VARIABLES and (no_bucket or _NO_SUCH_BUCKET.search(cause)):
        return NO_BUCKET
    if scheme == "s3" and _REGION.search(cause):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        now = f"it is {printable(region)} now" if region else "it is not set"
        return f"Set AWS_REGION to the region of the bucket ({now})"
    if _NO_CREDENTIALS.search(cause):
        return (
            "Put credentials into the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            " (AWS_SKIP_SIGNATURE=true for public buckets), GOOGLE_APPLICATION_CREDENTIALS, or"
            " AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
        )
    if _REFUSED.search(cause):
        found = ", ".join(
            f"{name} ({'set' if os.environ.get(name) else 'not set'})"
            for name in _VARIABLES.get(scheme, ())
        )
        return (
            "Check the credentials in the environment, and what they may do"
            + (f": {found}" if found else "")
            + ". A name that does not exist is refused, too, if they may not list the bucket"
        )
    if _NO_RANGES.search(cause):
        return (
            "The server, or a proxy before it, does not answer requests for a part of an object"
            " (header Range), which are needed"
        )
    if _NO_NAME.search(cause):
        return (
            "The name of the server is not known here: check the URL, AWS_ENDPOINT_URL, the network"
        )
    return "Check the network and the server, and run the command again"


def _without_debug(error: Exception) -> str:
    return str(error).partition("\n\nDebug source")[0]

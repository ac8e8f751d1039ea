"""What a failed request of obstore means.

In: an exception of obstore. Out: its cause in one line without secrets, whether a repeated request
can succeed, and what to do next.
"""

from __future__ import annotations

import re

from slipform.pipelines.errors import printable

__all__ = ["advice", "cause_of", "is_final", "is_unknown"]

_STATUS = re.compile(r"status code: (\d{3})")
_ANSWER = re.compile(r"<Code>([^<]*)</Code>\s*(?:<Message>([^<]*)</Message>)?")
_QUERY = re.compile(r"\?[^\s\"')]+")  # of a URL: it may hold a signature
_REFUSED = re.compile(r"status 40[13]|AccessDenied|AccessKey|Signature|Token|privileges")
_NO_CREDENTIALS = re.compile(
    r"Missing (?:Access|Secret)|must be specified|credential|token request", re.IGNORECASE
)
_FINAL = ("PermissionDenied", "Unauthenticated", "InvalidPath", "NotSupported", "Unknown")
_REPEATED = (408, 425, 429)  # timeouts and "too many requests"


def cause_of(error: Exception) -> str:
    """The cause in one line. Queries of URLs are left out.

    Args:
        error: An exception of obstore.
    """
    text = _without_debug(error)
    if answer := _ANSWER.search(text):
        return printable(": ".join(part for part in answer.groups() if part))
    if status := _STATUS.search(text):
        return f"the server answered with status {status[1]}"
    line = text.splitlines()[0].rpartition(" - ")[2] if text else type(error).__name__
    return printable(_QUERY.sub("", line))[:300]


def is_final(error: Exception) -> bool:
    """Whether a repeated request fails again: no permission, no credentials, a wrong name.

    Args:
        error: An exception of obstore.
    """
    text = _without_debug(error)
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


def advice(cause: str) -> str:
    """What to do next.

    Args:
        cause: The cause, as `cause_of` gives it.
    """
    if "NoSuchBucket" in cause:
        return "Create the bucket first, or check its name"
    if _NO_CREDENTIALS.search(cause):
        return (
            "Put credentials into the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            " (AWS_SKIP_SIGNATURE=true for public buckets), GOOGLE_APPLICATION_CREDENTIALS, or"
            " AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
        )
    if _REFUSED.search(cause):
        return "Check the credentials in the environment, and what they may do"
    return "Check the network and the server, and run the command again"


def _without_debug(error: Exception) -> str:
    return str(error).partition("\n\nDebug source")[0]

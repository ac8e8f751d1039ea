"""The client of an object store, which is obstore (extra `remote`).

In: the URL that a user gave, and the environment. Out: the checked URL, and the store of obstore.
Credentials come only from the environment, as obstore reads them: AWS_ACCESS_KEY_ID and so on.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from slipform.pipelines.errors import ConfigError, StorageError, printable
from slipform.pipelines.remote.failures import advice, cause_of, is_unknown
from slipform.pipelines.remote.repeated import FIRST_PAUSE

__all__ = [
    "SCHEMES",
    "checked_url",
    "client_of",
    "create",
    "endpoint_of",
    "is_remote",
    "meant_url",
    "usual_patience",
]

SCHEMES = ("s3", "gs", "az", "http", "https")
# Seconds in which a failed request is repeated, and the environment variable that changes them.
_PATIENCE, _PATIENCE_VARIABLE = 60.0, "SLIPFORM_STORAGE_PATIENCE"
_SILENCE = 30.0  # seconds without any byte, after which a request has failed
# Seconds in which a whole answer must come: a server may send a byte now and then, without end. A
# request for bytes is small, and a repeated one goes on from where it stopped. A part of an upload
# is sent again from its beginning, and lines often send more slowly than they receive.
_READ_LIMIT, _SEND_LIMIT = 45.0, 600.0
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# The variables that name another server, of each kind of store.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_EMULATOR = ("AZURE_STORAGE_USE_EMULATOR", "AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:10000")
_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
# USER@, or USER:PASSWORD@. Secret keys of AWS often have a slash.
_PASSWORD = re.compile(r"://([^/?#]*@|[^/?#]*:.*@)", re.DOTALL)
_ALLOWED = "Give s3://BUCKET/FOLDER, gs://, az://, http:// or https://"


def is_remote(text: object) -> bool:
    """Whether a text is a URL, and not the path of a local folder.

    Args:
        text: What a user gave as a dataset. `checked_url` refuses URLs that cannot be opened.
    """
    return bool(_URL.match(str(text)))


def meant_url(path: object) -> str:
    """The URL that the path of a local folder was meant to be.

    Args:
        path: "s3:/bucket/data", which has one slash. A `Path` of a URL has one, too.

    Returns:
        "s3://bucket/data". "": it is no such path.
    """
    scheme, _, rest = str(path).partition(":/")
    return f"{scheme}://{rest.lstrip('/')}" if scheme in SCHEMES and rest else ""


def checked_url(url: str) -> str:
    """Check the URL of a folder, and bring it into one form.

    Args:
        url: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER, http://HOST/FOLDER or
            https://HOST/FOLDER.

    Returns:
        The URL with a scheme in small letters, without a slash at its end.

    Raises:
        ConfigError: The URL has no such form, or has a user name, a password or a query.
    """
    shown, scheme = printable(re.split(r"[?#]", url)[0]), printable(url.partition("://")[0])
    if _PASSWORD.search(url):
        raise ConfigError(
            f"a URL with a user name or password is refused ({scheme}://...): recipes and logs"
            " would keep it. Put credentials into the environment, for example AWS_ACCESS_KEY_ID"
            " and AWS_SECRET_ACCESS_KEY."
        )
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (it raises if the port is no number)
    except ValueError:
        raise ConfigError(
            f"{scheme}://...: its host or port has a wrong form. {_ALLOWED}."
        ) from None
    if "?" in url or "#" in url:
        raise ConfigError(
            f"{shown}?... is refused: a query may hold a signature, which recipes and logs would"
            " keep. Give the URL without it, and put credentials into the environment."
        )
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ConfigError(f"{shown} names no folder of an object store. {_ALLOWED}.")
    folder = parts.path.rstrip("/")
    if not url.isprintable() or " " in url or {"", ".", ".."} & set(folder.split("/")[1:]):
        raise ConfigError(f'{shown} has a space, an empty folder name, "." or "..". {_ALLOWED}.')
    return f"{parts.scheme}://{parts.netloc}{folder}"


def usual_patience() -> float:
    """Seconds in which failed requests are repeated: SLIPFORM_STORAGE_PATIENCE, or 60.

    Raises:
        ConfigError: The variable is no number of seconds.
    """
    text = os.environ.get(_PATIENCE_VARIABLE, "")
    try:
        seconds = float(text) if text else _PATIENCE
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86400:
        raise ConfigError(
            f"{_PATIENCE_VARIABLE}={printable(text)}: give seconds, more than 0, at most 86400"
        )
    return seconds


def endpoint_of(folder: str) -> str:
    """The server that the environment names, for example in AWS_ENDPOINT_URL.

    Args:
        folder: The URL, as `checked_url` gives it.

    Returns:
        http://HOST:PORT or https://HOST:PORT. "": the usual server, or folder has the server.

    Raises:
        ConfigError: The environment has something else.
    """
    scheme, environment = folder.partition(":")[0], os.environ
    name = next((name for name in _ENDPOINTS.get(scheme, ()) if environment.get(name)), "")
    named = environment.get(name, "")
    if scheme == "az" and environment.get(_EMULATOR[0], "").lower() in ("true", "1"):
        name, named = _EMULATOR[1], environment.get(_EMULATOR[1], _EMULATOR[2])
    elif scheme == "az" and not named and (account := environment.get(_ACCOUNT)):
        name, named = _ACCOUNT, f"https://{account}.blob.core.windows.net"
    if not named:
        return ""
    parts = urlsplit(named)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ConfigError(f"{name}: give http://HOST:PORT or https://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


def client_of(folder: str, endpoint: str, patience: float, *, sending: bool = False) -> Any:
    """The store of obstore for a folder. Nothing is requested yet.

    obstore repeats a failed request three times. So one failed part does not restart an upload.

    Args:
        folder: The URL, as `checked_url` gives it.
        endpoint: The server, as `endpoint_of` gives it.
        patience: Seconds in which failed requests are repeated.
        sending: Whether it is for uploads of files.

    Raises:
        StorageError: obstore is not installed, or the environment has wrong settings.
    """
    try:
        from obstore import store
    except ImportError:
        raise StorageError(
            f'{folder} needs obstore, which is not installed: pip install "slipform[remote]"'
        ) from None
    options: dict[str, Any] = {
        "client_options": {
            "allow_http": (endpoint or folder).startswith("http://"),
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": timedelta(seconds=_SILENCE),
            "timeout": timedelta(seconds=_SEND_LIMIT if sending else _READ_LIMIT),
        },
        "retry_config": {
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=patience),
            "backoff": {"init_backoff": timedelta(seconds=FIRST_PAUSE)},
        },
    }
    if folder.startswith("s3://") and os.environ.get("AWS_PROFILE"):
        options["credential_provider"] = _profile()
    # from_url takes https://bucket.s3.amazonaws.com as s3://, with credentials.
    open_url = store.HTTPStore.from_url if folder.startswith("http") else store.from_url
    try:
        return open_url(folder, **options)
    except Exception as error:  # of obstore: missing credentials, unknown settings
        cause = cause_of(error)
        raise StorageError(
            f"{folder} cannot be opened: {cause}. {advice(cause, folder)}."
        ) from None


def create(client: Any, name: str, content: bytes) -> bool:
    """Write an object if there is none with this name. It is one request: nobody can come between.

    A server that does not know such requests replaces an object that exists.

    Args:
        client: The store of obstore.
        name: The name of the object.
        content: Its bytes.

    Returns:
        Whether it was written.
    """
    try:
        client.put(name, content, mode="create", use_multipart=False)
    except Exception as error:  # the classes of obstore have no common base
        if type(error).__name__ == "AlreadyExistsError":
            return False
        if not is_unknown(error):
            raise
        client.put(name, content)
    return True


def _profile() -> Any:
    """The credentials of the profile that AWS_PROFILE names. Only boto3 reads their files."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise StorageError(
            "AWS_PROFILE needs boto3, which is not installed: pip install boto3, or set"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        ) from None
    try:
        return Boto3CredentialProvider()
    except Exception as error:  # of boto3: no such profile
        raise StorageError(f"AWS_PROFILE: {printable(str(error))}") from None

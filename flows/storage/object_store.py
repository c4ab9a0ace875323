"""Object stores as used by this process: S3 by obstore, configured by settings and environment."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from flows.runtime.secrets import refuse_credentials
from schemas.errors import Misconfigured, NightstrideError, Retryable
from schemas.settings import Settings, StoreSettings

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store


PROTOCOL = "s3://"

Found = TypeVar("Found")

_SIGNS = ("timed out", "Connection refused", "connection closed", "Connection reset", "dns error")
_MOST_RETRIES = 50  # the time is the limit
_FIRST_WAIT, _LONGEST_WAIT = timedelta(milliseconds=200), timedelta(seconds=10)
_RENEW = timedelta(minutes=10)
_current: StoreSettings | None = None


def configure(settings: StoreSettings) -> None:
    """Configure how this process reaches object stores, both ours and fsspec's ``s3://``.

    Raises
    ------
    Misconfigured
        The endpoint is not a URL, or contains a password.
    """
    global _current
    if settings.endpoint is not None:
        refuse_credentials(settings.endpoint, "store.endpoint")
        if urlsplit(settings.endpoint).scheme not in ("http", "https"):
            raise Misconfigured(
                "setting", "store.endpoint", f"is not a URL: {settings.endpoint!r}.", "write https://HOST[:PORT]."
            )
    if settings != _current:
        _current = settings
        _store.cache_clear()
    _configure_fsspec(settings)


def configured() -> StoreSettings:
    """Return the settings of this process; if none were configured, those of the environment."""
    if _current is None:
        configure(Settings().store)
    assert _current is not None
    return _current


def store_of(bucket: str) -> "S3Store":
    """Return the store of a bucket; wrap its operations in `store_failures`.

    Raises
    ------
    Misconfigured
        The profile does not exist.
    """
    return _store(bucket, configured())


@contextmanager
def store_failures(uri: str) -> Iterator[None]:
    """Convert errors of the store to ours.

    Raises
    ------
    FileNotFoundError
        The object does not exist.
    FileExistsError
        The condition of a conditional write does not hold.
    Misconfigured
        The credentials are missing, wrong or insufficient, or the bucket does not exist.
    Retryable
        Any other error, after retries for ``store.patience_s``: no answer, a server error, ...
    """
    from obstore import exceptions as theirs

    try:
        yield
    except NightstrideError:
        raise
    except (theirs.NotFoundError, FileNotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise _no_bucket(uri) from None
        raise FileNotFoundError(2, "no such object", uri) from None
    except (theirs.AlreadyExistsError, theirs.PreconditionError):
        raise FileExistsError(17, "was changed by somebody else", uri) from None
    except (theirs.PermissionDeniedError, theirs.UnauthenticatedError) as error:
        raise _denied(uri, error) from None
    except (theirs.BaseError, OSError, ValueError, RuntimeError) as error:
        if re.search(r"<Code>NoSuchBucket</Code>", str(error)):
            raise _no_bucket(uri) from None
        if re.search(
            r"\b(401|403) (Unauthorized|Forbidden)|<Code>(Access|Signature|Invalid(Access|Token))", str(error)
        ):
            raise _denied(uri, error) from None
        raise Retryable(
            "object_store", uri, f"the store did not do it: {_reason(error)}.", "try again later."
        ) from None


def patiently(uri: str, operation: Callable[[], Found]) -> Found:
    """Call a function, which may be called several times, and try again with backoff after temporary errors.

    The store's own client retries what fails before an answer begins; this also retries answers that are cut off.

    Raises
    ------
    FileNotFoundError, Misconfigured, Retryable
        As in `store_failures`; the last after ``store.patience_s``.
    """
    end, wait = monotonic() + configured().patience_s, _FIRST_WAIT.total_seconds()
    while True:
        try:
            with store_failures(uri):
                return operation()
        except Retryable:
            if monotonic() + wait > end:
                raise
        sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT.total_seconds())


def _no_bucket(uri: str) -> Misconfigured:
    return Misconfigured("no_bucket", uri, "there is no such bucket.", "make it, or correct the URL.")


def _denied(uri: str, error: Exception) -> Misconfigured:
    return Misconfigured(
        "access_denied",
        uri,
        f"the store refuses: {_reason(error)}.",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or store.profile) to keys that may: "
        "docs/operate/object_stores.md.",
    )


def _reason(error: Exception) -> str:
    """Return a short reason: the store's full message may contain keys and signatures."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    status = re.search(r"\b([45]\d\d [A-Z][A-Za-z ]+)", text)
    words = [found[1].strip() for found in (status, code) if found]
    words += [sign for sign in _SIGNS if sign.lower() in text.lower()]
    return ", ".join(words) or type(error).__name__


@cache
def _store(bucket: str, settings: StoreSettings) -> "S3Store":
    from obstore.store import S3Store

    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    # For bulk deletion, some services (Ceph) require rights on the whole bucket.
    place: dict[str, Any] = {"region": region, "disable_bulk_delete": True}
    if endpoint is not None:
        refuse_credentials(endpoint, "AWS_ENDPOINT_URL")
        # Services other than AWS rarely have a host name for each bucket.
        place |= {"endpoint": endpoint.rstrip("/"), "virtual_hosted_style_request": False}
    return S3Store(
        bucket,
        **place,
        client_options={"timeout": timedelta(seconds=settings.timeout_s), "allow_http": True},
        retry_config={
            "max_retries": _MOST_RETRIES,
            "retry_timeout": timedelta(seconds=settings.patience_s),
            "backoff": {"init_backoff": _FIRST_WAIT, "max_backoff": _LONGEST_WAIT, "base": 2},
        },
        credential_provider=_Credentials(settings.profile),
    )


class _Credentials:
    """Credentials found as AWS's tools do: environment, profile, role of the machine."""

    def __init__(self, profile: str | None) -> None:
        from botocore.exceptions import ProfileNotFound
        from botocore.session import Session

        try:
            self._credentials = Session(profile=profile).get_credentials()
        except ProfileNotFound as error:
            raise Misconfigured(
                "no_profile", "store.profile", f"there is no profile {profile!r}.", "correct it, or add it to ~/.aws."
            ) from error
        if self._credentials is None:
            raise Misconfigured(
                "no_credentials",
                "AWS_ACCESS_KEY_ID",
                "there are no credentials for the object store.",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or store.profile.",
            )

    def __call__(self) -> "S3Credential":
        """Return the current credentials; obstore asks again before they expire."""
        from datetime import UTC

        now = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _RENEW if now.token else None,
        }


def _configure_fsspec(settings: StoreSettings) -> None:
    """Set the defaults of s3fs, which reads the inputs."""
    from fsspec.config import conf

    client = {"region_name": settings.region} if settings.region else {}
    timeouts = {"connect_timeout": settings.timeout_s, "read_timeout": settings.timeout_s}
    conf["s3"] = {
        **({"endpoint_url": settings.endpoint} if settings.endpoint else {}),
        **({"profile": settings.profile} if settings.profile else {}),
        "client_kwargs": client,
        "config_kwargs": timeouts,
    }

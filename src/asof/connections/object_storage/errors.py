"""What drivers of object storage say, as one clear error each: which object, what happened, and the next step."""

from __future__ import annotations

import re

from asof.errors import AsofError, StorageError


class StorageOutage(StorageError):
    """Object storage did not respond, or said that it cannot now; the same call may succeed later."""

    may_pass = True


class ObjectChanged(StorageError):
    """An object is no longer what it was when the read of it began, or when its change was made."""

    may_pass = True


_CREDENTIALS = (
    "check access_key_id and secret_access_key of storage: (Azure: account_name, account_key), or the provider's own "
    "variables and files"
)
_SIGNS: tuple[tuple[str, type[AsofError], str, str], ...] = (
    (
        r"169\.254\.169\.254|metadata\.google|no credentials|NoCredentials|missing credentials|IMDS|"
        r"loading credentials", StorageError,
        "there are no credentials",
        "",
    ),
    (
        r"Account must be specified", StorageError,
        "there is no storage account",
        "give account_name in storage:, or set AZURE_STORAGE_ACCOUNT_NAME",
    ),
    (
        r"Invalid Access Key", StorageError,
        "account_key is no key",
        "copy a key of the storage account: it is base64",
    ),
    (
        r"Unable to open service account file", StorageError,
        "the key file of service_account cannot be read",
        "check service_account of storage: and who may read that file",
    ),
    (
        r"Unable to decode service account file", StorageError,
        "the file of service_account is no key file",
        "make a key of the service account in JSON, and name that file",
    ),
    (
        r"NoSuchBucket|ContainerNotFound|bucket does not exist", StorageError,
        "there is no such bucket",
        "create it, or check the address",
    ),
    (
        r"SignatureDoesNotMatch|AuthenticationFailed|Bad signature|Server failed to authenticate", StorageError,
        "the signature does not match: the secret key is wrong",
        _CREDENTIALS,
    ),
    (
        r"InvalidAccessKeyId|InvalidClientTokenId|access key ID .* does not exist", StorageError,
        "the access key is unknown",
        _CREDENTIALS,
    ),
    (
        r"ExpiredToken|token .* expired", StorageError,
        "the credentials have expired",
        "get new ones, then run it again",
    ),
    (
        r"RequestTimeTooSkewed", StorageError,
        "this machine's clock differs too much from the server's",
        "set the clock, for example with NTP",
    ),
    (
        r"AccessDenied|403 Forbidden|401 Unauthorized|Permission ?Denied|AuthorizationFailure", StorageError,
        "access denied",
        "allow this user to list the bucket, and to read, write and delete its objects",
    ),
    (
        r"NoSuchUpload|EntityTooLarge|413 ", StorageError,
        "the store refuses an upload of this size",
        "check the limits of the store",
    ),
    (
        r"builder error|URL scheme is not allowed|scheme is not http", StorageError,
        "the endpoint is without TLS, which is not allowed",
        "give an https:// endpoint, or set `allow_http: true` in storage:",
    ),
    (
        r"certificate|InvalidCertificate|UnknownIssuer|tls handshake", StorageError,
        "the server's certificate is not trusted",
        "set ca_file of storage: to the certificate of the authority that signed it",
    ),
    (
        r"SlowDown|ServiceUnavailable|503 |429 |TooManyRequests|ServerBusy", StorageOutage,
        "the store asks to slow down, or is not available",
        "run it again later; nothing was lost",
    ),
    (
        r"operation timed out|TimedOut|timed out|Timeout", StorageOutage,
        "no response in time",
        "check the network, or raise timeout_s of storage:",
    ),
    (
        r"50[0-9] |InternalError|InternalServerError", StorageOutage,
        "the store failed",
        "run it again later",
    ),
    (
        r"error sending request|dns error|Connection|connect|IncompleteMessage|error decoding response|closed before",
        StorageOutage,
        "the store cannot be reached",
        "check endpoint and region of storage:, and the network",
    ),
    (
        r"Precondition|412 ", ObjectChanged,
        "it was changed meanwhile",
        "run it again",
    ),
    (
        r"404 Not Found|NoSuchKey|not found|BlobNotFound", StorageError,
        "it is not there",
        "check the address",
    ),
)  # fmt: skip
"""What a driver's text has, in this order → the error, its problem and the next step."""

_NO_CREDENTIALS = (
    (
        r"computeMetadata|GCS|metadata\.google",
        "name a key file as service_account in storage:, or in GOOGLE_APPLICATION_CREDENTIALS; on Google Cloud give "
        "the machine or pod a service account",
    ),
    (
        r"Azure|metadata/identity",
        "give account_name and account_key in storage:, or set AZURE_STORAGE_ACCOUNT_NAME and "
        "AZURE_STORAGE_ACCOUNT_KEY; on Azure give the machine or pod a managed identity",
    ),
    (
        "",
        "give access_key_id and secret_access_key in storage:, set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or name a profile; on AWS give the machine or pod a role",
    ),
)
"""What a driver's text has, in this order → the next step where there are no credentials."""

_DETAILS = re.compile(r"\s*Debug source:.*|<\?xml.*", re.DOTALL)


def translated(error: BaseException, what: str) -> AsofError:
    """The error of a driver in the user's terms.

    Args:
        what: what it is about, to begin the message: `s3://shop/data/a.parquet`.
    """
    text = str(error)
    for sign, kind, problem, hint in _SIGNS:
        if re.search(sign, text):
            hint = hint or next(step for provider, step in _NO_CREDENTIALS if re.search(provider, text))
            return kind(f"{what}: {problem}", hint=hint)
    first = (_DETAILS.sub("", text).splitlines() or [type(error).__name__])[0]
    return StorageError(f"{what}: {first[:300]}", hint="check the address and storage: in feature_store.yaml")


__all__ = ["ObjectChanged", "StorageOutage", "translated"]

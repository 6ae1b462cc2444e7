"""`storage:`, how object storage (`s3://`, `gs://`, `az://`) is reached."""

from __future__ import annotations

from typing import Annotated, ClassVar

from asof.config.sections.kinds import Index, Number, OptionDoc, Path, Prefix, Section
from asof.defaults import STORAGE_CONNECT_TIMEOUT_S, STORAGE_RETRIES, STORAGE_RETRY_S, STORAGE_TIMEOUT_S


class StorageSection(Section, frozen=True, kw_only=True):
    """Endpoint, credentials and limits. What is left out, the provider's own chain supplies."""

    SECTION: ClassVar[str] = "storage"

    endpoint: Annotated[
        Prefix, OptionDoc("URL of a server that speaks S3 (Google's, Azure's protocol); default: the provider's.")
    ] = ""
    region: Annotated[Prefix, OptionDoc("S3: the region; default: `AWS_REGION`, else `us-east-1`.")] = ""
    allow_http: Annotated[bool, OptionDoc("Whether the endpoint may be `http://`, without TLS.")] = False
    ca_file: Annotated[
        Path | None,
        OptionDoc("PEM file with the certificate of the authority that signed the endpoint's; default: the system's."),
    ] = None
    virtual_hosted_style: Annotated[
        bool, OptionDoc("S3: whether the bucket is in the host's name, and not in the path.")
    ] = False
    profile: Annotated[
        Prefix, OptionDoc("S3: a profile of `~/.aws/credentials` and `~/.aws/config` that has keys of its own.")
    ] = ""
    access_key_id: Annotated[
        Prefix,
        OptionDoc(
            "S3: the access key; default: the profile's, `AWS_ACCESS_KEY_ID`, or the role of the pod or machine."
        ),
    ] = ""
    secret_access_key: Annotated[Prefix, OptionDoc("S3: its secret.")] = ""
    session_token: Annotated[Prefix, OptionDoc("S3: the token of temporary keys.")] = ""
    account_name: Annotated[Prefix, OptionDoc("Azure: the storage account.")] = ""
    account_key: Annotated[Prefix, OptionDoc("Azure: its key.")] = ""
    service_account: Annotated[Path | None, OptionDoc("Google Cloud: path of a service account's key file.")] = None
    connect_timeout_s: Annotated[Number, OptionDoc("How long a connection may take.")] = STORAGE_CONNECT_TIMEOUT_S
    timeout_s: Annotated[Number, OptionDoc("How long one request may take.")] = STORAGE_TIMEOUT_S
    retries: Annotated[
        Index, OptionDoc("How often a request is made again after a 5xx response or a lost connection.")
    ] = STORAGE_RETRIES
    retry_s: Annotated[Number, OptionDoc("How long a request may take with all of that.")] = STORAGE_RETRY_S

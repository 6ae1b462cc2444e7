"""`server:`, how `asof serve` runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from asof.config.sections.kinds import Number, OptionDoc, Path, Section, Text, Texts, Whole


class ServerSection(Section, frozen=True, kw_only=True):
    """The settings of the feature server."""

    SECTION: ClassVar[str] = "server"

    host: Annotated[Text, OptionDoc("The address to listen on.")] = "127.0.0.1"
    allowed_hosts: Annotated[
        Texts | None,
        OptionDoc(
            "Names by which a server on the loopback address may be asked too, where callers need no key: those of a "
            "port forward, or of a notebook's proxy."
        ),
    ] = None
    port: Annotated[int, Meta(ge=0, le=65535), OptionDoc("The port; 0 chooses a free one.")] = 6566
    workers: Annotated[Whole, OptionDoc("Number of worker processes; about one per core.")] = 1
    max_body_bytes: Annotated[Whole, OptionDoc("Maximum size of a request; larger ones are refused (413).")] = 16 << 20
    max_values: Annotated[
        Whole, OptionDoc("Maximum values in a request's body, counted before they are parsed; more are refused (413).")
    ] = 1_000_000
    max_rows: Annotated[Whole, OptionDoc("Maximum entity rows of a read; more are refused (413).")] = 10_000
    max_push_rows: Annotated[Whole, OptionDoc("Maximum rows of a push or a write; more are refused (413).")] = 20_000
    max_features: Annotated[
        Whole,
        OptionDoc("Maximum features that a request lists, and columns of its rows; more are refused (413)."),
    ] = 2_000
    max_response_bytes: Annotated[
        Whole,
        OptionDoc(
            "Maximum size of a response, counted before it is written: the stored rows that it needs, or 32 bytes for "
            "each value, whichever is more. Larger reads are refused (413)."
        ),
    ] = 64 << 20
    max_waiting: Annotated[
        Whole, OptionDoc("Maximum concurrent requests of a worker; further ones are refused (503).")
    ] = 512
    max_connections: Annotated[
        Whole,
        OptionDoc("Maximum connections of a worker; beyond it, those that wait longest for their client are closed."),
    ] = 4096
    receive_timeout_s: Annotated[Number, OptionDoc("How long a request may take to arrive (408).")] = 10
    request_timeout_s: Annotated[Number, OptionDoc("Time limit of a response (503), except for materialize.")] = 30
    keep_alive_s: Annotated[Number, OptionDoc("How long an idle connection is kept.")] = 75
    graceful_s: Annotated[Number, OptionDoc("How long running requests may take when a worker stops.")] = 30
    fast_path: Annotated[
        bool,
        OptionDoc("Whether one-row reads of plain views from Redis take the fast path, which returns the same bytes."),
    ] = True
    catalog: Annotated[
        bool,
        OptionDoc("Whether browsers get the catalog's pages, at `/ui/`; they need the extra `catalog`."),
    ] = True
    backlog: Annotated[Whole, OptionDoc("Length of the queue of connections that are not accepted yet.")] = 2048
    function_timeout_s: Annotated[Number, OptionDoc("How long an on-demand function may take (424).")] = 2
    function_threads: Annotated[Whole, OptionDoc("Maximum concurrent on-demand functions of a worker.")] = 4
    registry_refresh_s: Annotated[Number, OptionDoc("How often to check the registry for a new version.")] = 1
    access_log: Annotated[
        Literal["none", "errors", "all"], OptionDoc("Which requests are logged, as a line of JSON on stderr.")
    ] = "none"  # fmt: skip
    log_messages: Annotated[
        bool,
        OptionDoc(
            "Whether access log and traces have the messages of errors, which may repeat values of the request; "
            "default: the names of errors alone."
        ),
    ] = False
    tracing: Annotated[
        Literal["none", "otlp"],
        OptionDoc("`otlp` sends OpenTelemetry traces, set up by the `OTEL_*` variables; needs the extra `otel`."),
    ] = "none"
    tls_cert: Annotated[Path | None, OptionDoc("The server's certificate chain (PEM).")] = None
    tls_key: Annotated[Path | None, OptionDoc("Its private key (PEM).")] = None
    tls_key_password: Annotated[Text | None, OptionDoc("The key's password, if it has one; better as `${VAR}`.")] = None
    tls_client_ca: Annotated[Path | None, OptionDoc("CA of client certificates (PEM); enables them.")] = None
    tls_client_certificates: Annotated[
        Literal["optional", "required"] | None,
        OptionDoc("Whether clients must present a certificate.", unset="optional"),
    ] = None
    max_jobs: Annotated[
        Whole, OptionDoc("Maximum materialize runs of one caller at a time; more are refused (429).")
    ] = 4  # fmt: skip
    feature_log_share: Annotated[
        float,
        Meta(ge=0, le=1),
        OptionDoc("The fraction of reads whose features are logged for audit and training, from 0 to 1."),
    ] = 0
    feature_log_services: Annotated[Texts | None, OptionDoc("The services whose reads are logged; default: all.")] = (
        None
    )
    feature_log_queue: Annotated[Whole, OptionDoc("Maximum rows in the queue; more are dropped.")] = 10_000
    feature_log_flush_s: Annotated[Number, OptionDoc("How often logged rows are written to the offline store.")] = 10

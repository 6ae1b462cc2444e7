"""`server:`, how `asof serve` runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from asof.config.sections.kinds import Number, OptionDoc, Path, Section, Text, Texts, Whole


class ServerSection(Section, frozen=True, kw_only=True):
    """The settings of the feature server."""

    SECTION: ClassVar[str] = "server"

    host: Annotated[Text, OptionDoc("The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), OptionDoc("The port; 0 takes a free one.")] = 6566
    workers: Annotated[Whole, OptionDoc("How many processes answer; about one per core.")] = 1
    max_body_bytes: Annotated[Whole, OptionDoc("A larger request is refused (413).")] = 16 << 20
    max_rows: Annotated[Whole, OptionDoc("A read of more entity rows is refused (413).")] = 10_000
    max_waiting: Annotated[
        Whole, OptionDoc("With more requests than these at once in a worker, further ones are told to come back (503).")
    ] = 512
    max_connections: Annotated[
        Whole,
        OptionDoc(
            "With more connections than these in a worker, those that have waited longest for their client are closed."
        ),
    ] = 4096
    receive_timeout_s: Annotated[Number, OptionDoc("How long a request may take to arrive (408).")] = 10
    request_timeout_s: Annotated[Number, OptionDoc("How long an answer may take (503); not of materialize.")] = 30
    keep_alive_s: Annotated[Number, OptionDoc("How long an idle connection is kept.")] = 75
    graceful_s: Annotated[Number, OptionDoc("How long running requests may take when a worker stops.")] = 30
    fast_path: Annotated[
        bool,
        OptionDoc(
            "Whether reads of one row of plain views from Redis are answered by a shorter way, with the same bytes."
        ),
    ] = True
    backlog: Annotated[Whole, OptionDoc("How many connections the system keeps until they are accepted.")] = 2048
    function_timeout_s: Annotated[Number, OptionDoc("How long an on-demand function may take (424).")] = 2
    function_threads: Annotated[Whole, OptionDoc("How many on-demand functions run at once in a worker.")] = 4
    registry_refresh_s: Annotated[Number, OptionDoc("How often to look whether something was applied.")] = 1
    access_log: Annotated[
        Literal["none", "errors", "all"], OptionDoc("Which requests get a line of JSON on stderr.")
    ] = "none"  # fmt: skip
    tracing: Annotated[
        Literal["none", "otlp"],
        OptionDoc("`otlp` sends OpenTelemetry traces, set up by the `OTEL_*` variables; needs the extra `otel`."),
    ] = "none"
    tls_cert: Annotated[Path | None, OptionDoc("The server's certificate (PEM), with those up to the root.")] = None
    tls_key: Annotated[Path | None, OptionDoc("Its private key (PEM).")] = None
    tls_key_password: Annotated[Text | None, OptionDoc("The key's password, if it has one; better as `${VAR}`.")] = None
    tls_client_ca: Annotated[Path | None, OptionDoc("Who signs client certificates (PEM); with it they count.")] = None
    tls_client_certificates: Annotated[
        Literal["optional", "required"] | None,
        OptionDoc("Whether a client has to show a certificate.", unset="optional"),
    ] = None
    feature_log_share: Annotated[
        float,
        Meta(ge=0, le=1),
        OptionDoc("The share of reads whose features are kept for audit and training: from 0, none, to 1, all."),
    ] = 0
    feature_log_services: Annotated[Texts | None, OptionDoc("Which services' reads are kept; all by default.")] = None
    feature_log_queue: Annotated[Whole, OptionDoc("How many rows may wait to be kept; more are dropped.")] = 10_000
    feature_log_flush_s: Annotated[Number, OptionDoc("How often they are written to the offline store.")] = 10

"""What users write: frozen, validated definitions without I/O, and how they are collected and stored as JSON."""

from asof.definitions.base import Definition
from asof.definitions.entities import Entity, Field
from asof.definitions.expectations import Expectation
from asof.definitions.formats import (
    AvroFormat,
    CsvFormat,
    DeltaFormat,
    JsonFormat,
    MessageFormat,
    ParquetFormat,
    ProtoFormat,
)
from asof.definitions.kafka import KafkaSource
from asof.definitions.logs import LogSource, PushSource
from asof.definitions.on_demand import OnDemandFeatureView, on_demand_feature_view
from asof.definitions.postgres import PostgreSQLSource, PostgresSource
from asof.definitions.project import KINDS, Project, Snapshot, is_ordered_by_arrival, project_of, state_hash
from asof.definitions.services import FeatureService
from asof.definitions.sources import FileSource, RequestSource, Source
from asof.definitions.views import BatchFeatureView, FeatureView, Projection, StreamFeatureView
from asof.definitions.windows import Aggregation, Session, Sliding, Window

__all__ = [
    "KINDS", "Aggregation", "AvroFormat", "BatchFeatureView", "CsvFormat", "Definition", "DeltaFormat", "Entity",
    "Expectation",
    "FeatureService", "FeatureView", "Field", "FileSource", "JsonFormat", "KafkaSource", "LogSource", "MessageFormat",
    "OnDemandFeatureView", "ParquetFormat", "PostgreSQLSource", "PostgresSource", "Project", "Projection",
    "ProtoFormat", "PushSource", "RequestSource", "Session", "Sliding", "Snapshot", "Source", "StreamFeatureView",
    "Window", "is_ordered_by_arrival", "on_demand_feature_view", "project_of", "state_hash",
]  # fmt: skip

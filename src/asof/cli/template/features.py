"""The features of this project. `asof plan` shows what has changed here, `asof apply` makes it so.

Every object below is found by being a variable of this module; order and file names do not matter.
"""

from datetime import timedelta

from asof import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    PushSource,
    Session,
    Sliding,
    on_demand_feature_view,
)
from asof.types import Float64, Int64, String, Timestamp

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

# What the features are about, and the column that identifies it.
user = Entity(name="user", join_keys=["user_id"])

# Where rows come from: here a program pushes them. Each row says when it happened (`timestamp_field`), in UTC.
# Other sources: FileSource (Parquet, CSV, Delta) and PostgresSource for tables, KafkaSource and LogSource for streams.
visits = PushSource(
    name="visits",
    schema=[Field("user_id", Int64), Field("page", String), Field("seconds", Float64), Field("visited_at", Timestamp)],
    timestamp_field="visited_at",
)

# Features of a user, aggregated over windows that end at the moment that is asked for:
# the moment of each example when you train, now when you serve. Both come from these same lines.
user_visits = FeatureView(
    name="user_visits",
    entities=[user],
    source=visits,
    aggregations=[
        Aggregation(name="visits_1d", function="count", window=Sliding(DAY)),
        Aggregation(name="seconds_1d", function="sum", column="seconds", window=Sliding(DAY)),
        # A session is a chain of visits that are at most an hour apart.
        Aggregation(name="session_visits", function="count", window=Session(HOUR)),
        # Without a window: of all visits ever.
        Aggregation(name="last_page", function="last", column="page"),
    ],
    description="What a user looked at lately",
)


# A function of features, run for every training row and for every request.
@on_demand_feature_view(sources=[user_visits], schema=[Field("seconds_per_visit", Float64)], mode="python")
def visit_length(row: dict[str, float | None]) -> dict[str, float | None]:
    """How long a visit takes on average; null where there was none."""
    visits = row["visits_1d"]
    return {"seconds_per_visit": row["seconds_1d"] / visits if visits and row["seconds_1d"] is not None else None}


# The features of one model, by name and in order: train and serve with `--service visit_model`.
visit_model = FeatureService(name="visit_model", features=[user_visits, visit_length])

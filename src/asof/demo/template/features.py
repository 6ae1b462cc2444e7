"""The features of a small online shop, from two Parquet files and one stream of website traffic.

`asof plan` reads this file, checks it against the real sources, and says what `asof apply` would change.
Every object below is found by being a variable of this module; their order and file names do not matter.
"""

from datetime import timedelta

from asof import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    Session,
    Sliding,
    on_demand_feature_view,
)
from asof.types import Float64, Int64, String

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

# What the features are about. The join key is the column by which sources, training rows and requests name a user.
user = Entity(
    name="user", join_keys=["user_id"], description="Somebody who registered at the shop", owner="accounts@shop.example"
)


# ---- Sources: where rows come from, and when each of them happened ----

# One row per registration. `timestamp_field` says from which moment a row counts: a training row from before a user's
# registration must not see the country, because it was not known then.
users = FileSource(
    name="users",
    path="../source/users.parquet",
    timestamp_field="registered_at",
    description="Registrations, one row each",
    owner="accounts@shop.example",
)

# No view reads the orders: they are what a model learns from. As a source they can be named in the SQL that chooses
# the training rows: SELECT user_id, order_id, ordered_at AS event_timestamp FROM orders
orders = FileSource(
    name="orders",
    path="../source/orders.parquet",
    timestamp_field="ordered_at",
    description="Orders, one row each",
    owner="sales@shop.example",
)

# A stream of JSON messages. A message has no types, so the schema says them; other fields in a message are ignored.
# An integer could count seconds or nanoseconds, so `timestamp_unit` has to say which.
# There is no table behind the stream: Asof archives every event, and reads history from its archive.
traffic = LogSource(
    name="traffic",
    topic="traffic",
    message_format="json",
    schema=[Field("user_id", Int64), Field("page", String), Field("timestamp", Int64)],
    timestamp_field="timestamp",
    timestamp_unit="ms",
    description="Page views of the website, as its servers send them",
    owner="web@shop.example",
)


# ---- Views: features of one entity from one source ----

# The latest row as of the asked moment. There is no ttl, as a registration does not go out of date.
user_profile = FeatureView(
    name="user_profile",
    entities=[user],
    source=users,
    schema=[
        Field("country", String, description="Country in which the user registered"),
        Field("platform", String, description="Device of the registration: Mobile, PC or TV"),
    ],
    description="Where a user is from, and the device of the registration",
    owner="accounts@shop.example",
    tags={"team": "accounts"},
)

# Aggregates of the stream. Training computes them as of each order's time, serving as of now, from the same lines.
#
# A session is a chain of visits that are at most an hour apart. When the last visit is longer ago, no session is open
# and the counts are 0. `where` only chooses what is counted: any visit, also to the order page, keeps a session alive.
#
# Each order is an event of this stream too, at the order's own time. Windows include what happens exactly then, so the
# order page is the newest of the views_1d of its order; boundary="exclusive" would leave it out.
user_traffic = FeatureView(
    name="user_traffic",
    entities=[user],
    source=traffic,
    aggregations=[
        Aggregation(
            name="session_listing_page_views",
            function="count",
            where="page = 'listing_page'",
            window=Session(HOUR),
            description="Listing pages that the user opened in the current session",
        ),
        Aggregation(
            name="session_product_page_views",
            function="count",
            where="page = 'product_page'",
            window=Session(HOUR),
            description="Product pages that the user opened in the current session",
        ),
        Aggregation(
            name="session_photo_page_views",
            function="count",
            where="page = 'photo_page'",
            window=Session(HOUR),
            description="Photo pages that the user opened in the current session",
        ),
        Aggregation(name="views_1d", function="count", window=Sliding(DAY), description="Pages of a day"),
        Aggregation(name="views_7d", function="count", window=Sliding(7 * DAY), description="Pages of a week"),
        Aggregation(
            name="last_page_1h",
            function="last",
            column="page",
            window=Sliding(HOUR),
            description="Newest page of the last hour",
        ),
    ],
    description="What a user looked at lately",
    owner="growth@shop.example",
    tags={"team": "growth", "model": "order"},
)


# ---- On demand: functions of features, run at read time ----


# The same function runs for every training row and for every request, so it must depend on its row alone: `asof plan`
# tries it on generated rows, one by one and shuffled, and refuses a function whose results differ.
@on_demand_feature_view(
    sources=[user_traffic],
    schema=[
        Field("product_per_listing", Float64, description="Product pages for each listing page of the session"),
        Field("photo_share", Float64, description="Share of photo pages among the pages of the session"),
    ],
    mode="python",
    owner="growth@shop.example",
    tags={"team": "growth"},
)
def browsing_ratios(row: dict[str, int]) -> dict[str, float | None]:
    """How deep a user looks into the shop in this session; null where there is nothing to divide by."""
    listings = row["session_listing_page_views"]
    products = row["session_product_page_views"]
    photos = row["session_photo_page_views"]
    looked_at = listings + products + photos
    return {
        "product_per_listing": products / listings if listings else None,
        "photo_share": photos / looked_at if looked_at else None,
    }


# ---- The service: the features of one model, by name and in order ----

# Training and serving ask for `order_model`, so that neither can forget a feature or change their order.
order_model = FeatureService(
    name="order_model",
    features=[user_traffic, user_profile, browsing_ratios],
    description="Features of a user at the moment of an order",
    owner="growth@shop.example",
    tags={"model": "order"},
)

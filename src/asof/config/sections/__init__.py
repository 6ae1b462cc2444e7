"""Every section of `feature_store.yaml` as a Struct: one declaration of each option, from which the rest is derived."""

from asof.config.sections import auth, connections, log, offline_store, online_store, registry
from asof.config.sections.kinds import Section
from asof.config.sections.server import Server
from asof.config.sections.top import Top

FAMILIES: dict[str, type[Section]] = {
    "registry": registry.Registry,
    "offline_store": offline_store.OfflineStore,
    "online_store": online_store.OnlineStore,
    "log": log.Log,
    "connections": connections.Connection,
}
"""The sections that are a product (`type:`) and its options."""

PRODUCTS: tuple[type[Section], ...] = (
    registry.SqliteRegistry,
    registry.PostgresRegistry,
    offline_store.DuckDBOffline,
    offline_store.PostgresOffline,
    online_store.SqliteOnline,
    online_store.RedisOnline,
    online_store.PostgresOnline,
    log.FileLog,
    log.KafkaLog,
    connections.PostgresConnection,
    connections.SchemaRegistryConnection,
    connections.KafkaConnection,
)
"""The products whose options are known here. Those of other packages know their own."""

AUTH: tuple[type[Section], ...] = (auth.Auth, auth.Key, auth.Issuer, auth.Certificate, auth.Role)

__all__ = ["AUTH", "FAMILIES", "PRODUCTS", "Section", "Server", "Top"]

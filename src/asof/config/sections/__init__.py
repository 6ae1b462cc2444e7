"""Every section of `feature_store.yaml` as a Struct: one declaration of each option, from which the rest is derived."""

from asof.config.sections import auth, connections, log, offline_store, online_store, registry
from asof.config.sections.kinds import Section
from asof.config.sections.logging import LoggingSection
from asof.config.sections.messages import MessagesSection
from asof.config.sections.schedule import ScheduledJobSection
from asof.config.sections.server import ServerSection
from asof.config.sections.storage import StorageSection
from asof.config.sections.top import ProjectSection

FAMILIES: dict[str, type[Section]] = {
    "registry": registry.RegistrySection,
    "offline_store": offline_store.OfflineStoreSection,
    "online_store": online_store.OnlineStoreSection,
    "log": log.LogSection,
    "connections": connections.ConnectionSection,
}
"""The sections that are a product (`type:`) and its options."""

PRODUCTS: tuple[type[Section], ...] = (
    registry.SqliteRegistrySection,
    registry.PostgresRegistrySection,
    registry.ObjectRegistrySection,
    offline_store.DuckDBOfflineSection,
    offline_store.PostgresOfflineSection,
    offline_store.SparkOfflineSection,
    online_store.SqliteOnlineSection,
    online_store.RedisOnlineSection,
    online_store.PostgresOnlineSection,
    log.FileLogSection,
    log.KafkaLogSection,
    connections.PostgresConnectionSection,
    connections.SchemaRegistryConnectionSection,
    connections.KafkaConnectionSection,
)
"""The products whose options are declared here; products of other packages declare their own."""

AUTH: tuple[type[Section], ...] = (
    auth.AuthSection,
    auth.KeySection,
    auth.IssuerSection,
    auth.CertificateSection,
    auth.RoleSection,
)

__all__ = [
    "AUTH",
    "FAMILIES",
    "PRODUCTS",
    "LoggingSection",
    "MessagesSection",
    "ProjectSection",
    "ScheduledJobSection",
    "Section",
    "ServerSection",
    "StorageSection",
]

"""The newest schema that a schema registry has for a topic, next to the columns that its source declares."""

from __future__ import annotations

from asof.decoding import SchemaBySubject, SchemaRegistryUnavailable
from asof.decoding.fields import declared_fields, expected_kind, fields_of_schema
from asof.decoding.schemas import BrokenSchema
from asof.definitions import LogSource, Project
from asof.errors import AsofError, nearest, some
from asof.flows.stores import Stores
from asof.planning import Finding


def check_message_schemas(stores: Stores, project: Project) -> list[Finding]:
    """Declared columns that the newest schema of a topic's messages lacks: they would be null, without an error.

    A topic's subject is the one that producers use by default, `TOPIC-value`; without it there is nothing to compare.
    A registry that cannot be reached is a warning, and each is waited for once.
    """
    findings: list[Finding] = []
    unreached: set[int] = set()
    for source in project.sources.values():
        if not isinstance(source, LogSource) or not source.message_format.registry:
            continue
        title = f"source {source.name!r}"
        try:
            schemas = stores.schemas_of(source)
            if not isinstance(schemas, SchemaBySubject) or id(schemas) in unreached:
                continue
            findings += _compared(schemas, source, title)
        except AsofError as error:
            # Workers need the registry, and say so; definitions can be applied before it is there.
            if isinstance(error, SchemaRegistryUnavailable):
                unreached.add(id(schemas))
            findings.append(_warning(source, title, "", error.message, error.hint))
    return findings


def _compared(schemas: SchemaBySubject, source: LogSource, title: str) -> list[Finding]:
    subject = f"{source.topic}-value"
    try:
        schema = schemas.latest(subject)
    except BrokenSchema as error:
        return [
            _warning(source, title, "a schema that can be used", f"that of subject {subject!r} cannot: {error}", "")
        ]
    if schema is None:
        return []
    kind = expected_kind(source)
    if schema.kind != kind:
        found = f"the newest schema of subject {subject!r} is {schema.kind}"
        return [_warning(source, title, f"messages in {kind}", found, "check the source's message_format=")]
    fields = fields_of_schema(schema, source)
    if fields is None:
        return []
    missing = [each.name for each in declared_fields(source) if each.name not in fields]
    if not missing:
        return []
    declared = {each.name for each in source.message_fields}
    others = sorted(fields - declared)
    near = [f"for {name!r} {hint}" for name in missing if (hint := nearest(name, others))]
    hint = "; ".join([*near, "where messages no longer have a column, it is null: change the source's schema="])
    found = f"the newest schema of subject {subject!r} lacks {some(missing)}; not declared of it: {some(others)}"
    return [_warning(source, title, "", found, hint)]


def _warning(source: LogSource, title: str, expected: str, found: str, hint: str) -> Finding:
    return Finding("warning", title, source.where, expected, found, hint)


__all__ = ["check_message_schemas"]

"""The registry in a bucket of object storage."""

from asof.registry.object.registry import ObjectRegistry

__all__ = ["ObjectRegistry"]

"""Asof, a feature store: the same features as of any moment for training and for serving."""

__all__: list[str] = []

"""Values on their way in and out: fitted to declared types, as columns, as JSON, and packed as bytes."""

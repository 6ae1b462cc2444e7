"""What must be said by every verb where a source is no longer as it was applied."""

"""What each protocol says, as data."""

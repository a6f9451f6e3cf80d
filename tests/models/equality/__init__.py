"""Same weights in, same numbers out: our networks against their references."""

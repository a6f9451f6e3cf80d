"""Downloads: addresses to checked files, whatever a server does."""

"""What the networks of one task share: how they are called, trained and asked."""

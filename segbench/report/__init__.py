"""``table.json`` to pages."""

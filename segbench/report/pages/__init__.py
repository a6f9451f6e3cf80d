"""Pages of the report: each is a template and a file of the same name."""

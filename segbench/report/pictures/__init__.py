"""Pictures of the report: photographs, label maps, errors."""

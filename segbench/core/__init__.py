"""Types, errors, files, processes and provenance: what every other room stands on."""

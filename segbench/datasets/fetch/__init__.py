"""Bringing the archives of a dataset here: transfer, verification, unpacking, bookkeeping."""

"""Raw folders to prepared datasets."""

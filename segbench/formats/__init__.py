"""What lies on disk: label maps, PNG files, prepared datasets, predictions and their manifests."""

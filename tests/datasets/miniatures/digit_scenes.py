"""Few scenes: the dataset is generated, so there is nothing to unpack."""

OPTIONS = {"train": 5, "val": 3, "test": 2}

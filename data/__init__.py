"""Data sets: a loader a file, each giving train, validation and test examples: images in [0, 1], audio in [-1, 1]."""

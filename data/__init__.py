"""Data sets: a loader a file, each giving train, validation and test images in [0, 1]."""

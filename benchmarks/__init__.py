"""What is fast and what is not, as ratios measured side by side: `make bench`."""

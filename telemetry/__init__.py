"""What a run writes and shows: gradient flow, metrics, TensorBoard, the run directory."""

"""The model's own graph: where it can be cut, and the two halves of each cut."""

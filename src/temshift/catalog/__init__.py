"""Dataset classes: the only place that opens files."""

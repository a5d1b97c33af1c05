"""Physics, image processing and tables: plain arrays and frames in and out."""

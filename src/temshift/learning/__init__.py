"""Networks, augmentation, folds, training, inference, metrics and statistics."""

"""Training: data -> augment -> forward -> loss -> backward -> optimizer -> checkpoint."""

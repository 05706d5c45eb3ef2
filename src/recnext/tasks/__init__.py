"""Classification, detection and segmentation: the same files in each."""

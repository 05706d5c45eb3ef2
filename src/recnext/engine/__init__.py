"""One loop, one run and its folder; it knows no task and no metric."""

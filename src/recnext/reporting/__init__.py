"""One page about a run: a self-contained HTML file."""

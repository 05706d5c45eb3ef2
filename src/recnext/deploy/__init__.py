"""Fast inference here, files for other runtimes, and the server."""

"""Latency and throughput of networks, ours and others', by one protocol (docs/benchmarking.md)."""

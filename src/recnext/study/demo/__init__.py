"""Demonstrations on data that needs no download."""

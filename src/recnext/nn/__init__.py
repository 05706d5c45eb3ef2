"""The networks and their parts: all that `import recnext` needs."""

"""Receptive fields, costs, speed, reports and demos: what is learned from networks and runs."""

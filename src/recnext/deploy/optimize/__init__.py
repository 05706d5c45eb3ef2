"""Running a network as fast as the machine can: backends, their choice by trial, and their cache."""

from .selection import BACKENDS, RUNTIMES, Optimized, Trial, forward_for, optimize

__all__ = ["BACKENDS", "RUNTIMES", "Optimized", "Trial", "forward_for", "optimize"]

"""Running a network as fast as the machine can: backends, their choice by trial, and their cache."""

from .selection import BACKENDS, Optimized, Trial, forward_for, optimize

__all__ = ["BACKENDS", "Optimized", "Trial", "forward_for", "optimize"]

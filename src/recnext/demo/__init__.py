"""The whole job in about a minute: train, evaluate, fuse and predict, on real digits."""

from .run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]

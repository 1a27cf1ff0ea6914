"""Simulated SAR images: speckle, clutter, targets, whole scenes."""

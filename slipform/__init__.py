"""Slipform: a high-throughput, data-pipeline-first trainer for image classifiers."""

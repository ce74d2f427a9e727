"""Metrics, traces and logs; imports nothing else of the service."""

"""Readers of sensor files, one module a format; `catalogue` chooses."""

"""Versions, aliases and tracked runs, kept in MLflow."""

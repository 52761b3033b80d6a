"""Whole files as the input of predict: uploads and URIs, answered as timelines."""

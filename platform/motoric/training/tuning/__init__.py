"""Searching for the best values of a recipe: trials by ray.tune, stopped early by ASHA."""

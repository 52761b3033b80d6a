"""Networks in plain torch, chosen by name in a recipe."""

"""Chains of the parts above, such as train -> export -> register -> release."""

"""Figures on people never seen in training, with intervals, warnings, plots and a report."""

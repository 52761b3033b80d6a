"""From a recipe to a trained network: split, loop, trainer, evaluation."""

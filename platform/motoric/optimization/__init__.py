"""From a trained network to the graph that is served: export and verify."""

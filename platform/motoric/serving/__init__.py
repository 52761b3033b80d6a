"""From an HTTP request to a prediction: keys, batching, the model app and the platform app."""

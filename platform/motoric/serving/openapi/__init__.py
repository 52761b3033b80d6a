"""OpenAPI 3.1 documents, made from what is served: examples fit the model's signature."""

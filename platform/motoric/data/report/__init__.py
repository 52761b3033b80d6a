"""The report of a dataset: what a person looks at after an ingest."""

"""One model as files: signature, preprocessing, digests, and the predictor that runs it."""

"""Users' data: arrays, images and Python objects become batches that a model takes."""

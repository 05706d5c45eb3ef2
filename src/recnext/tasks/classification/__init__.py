"""Image classification: data, training, evaluation, prediction."""

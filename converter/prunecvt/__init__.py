"""Takes a trained ONNX model and gives back a smaller, really faster one, with proof."""

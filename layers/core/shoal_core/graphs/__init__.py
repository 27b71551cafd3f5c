"""Networks as ONNX graphs: recipes, reverse-mode autodiff, training steps, export and optimisation."""

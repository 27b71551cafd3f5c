"""Networks that users bring: an ONNX file is read, fitted to a dataset version, proven, and trained as a recipe is."""

"""Models of other frameworks to ONNX, on the user's machine: converters live in environments of their own."""

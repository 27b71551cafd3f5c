"""Training: rounds of local steps on ONNX Runtime, merged deterministically, and the stages around them."""

"""Package the selected model: safetensors, an ONNX graph with the same outputs, and a model card."""

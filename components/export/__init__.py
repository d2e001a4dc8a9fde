"""models/best.safetensors, reports/evaluation.json -> package: safetensors and ONNX that agree, and a model card."""

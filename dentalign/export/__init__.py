"""Export of the trained models as ONNX files, for programs without torch."""

"""Evaluate step: data/store (test tiles), models/best.safetensors -> scores, balance figures, pictures, HTML report."""

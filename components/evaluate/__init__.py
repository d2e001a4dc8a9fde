"""data/store (test tiles) and models/best.safetensors -> reports: scores, balance figures, pictures, one HTML page."""

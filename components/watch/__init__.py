"""Watch: scenes of production compared with the validation tiles of the model. Not a step of the pipeline."""

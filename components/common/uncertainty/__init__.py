"""How certain the figures and the confidences of a network are: intervals, calibration, temperatures."""

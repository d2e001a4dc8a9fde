"""What the data are: data sets, splits, classes, raw tiles and stores."""

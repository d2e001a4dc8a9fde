"""Step acquire: a data source (generated city, folder or archive) -> raw tiles in data/raw."""

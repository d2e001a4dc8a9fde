"""A data source (generated city, folder or archive) -> data/raw, raw tiles in the ISPRS layout."""

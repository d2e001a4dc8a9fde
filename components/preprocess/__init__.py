"""Raw tiles -> a store of memory-mapped Arrow files with a manifest."""

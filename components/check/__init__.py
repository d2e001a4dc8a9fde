"""Raw tiles -> a report of everything that is wrong with them."""

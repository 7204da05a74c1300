"""Import of crowns, labelled scans and public data sets into a case store, with a module per format."""

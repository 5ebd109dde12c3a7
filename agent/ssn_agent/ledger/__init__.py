"""The database of every trigger and its one verdict; its process also publishes."""

"""What happens to vision models when generated images get into their training data? The library behind the notebooks."""

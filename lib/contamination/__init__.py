"""What happens to vision models when generated images get into their training data? The notebooks' library."""

"""What a backend must do: the protocols that every framework fulfils, and the data they take."""

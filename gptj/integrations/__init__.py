"""Other people's tools that this package plugs into: each module is about one, and needs it."""

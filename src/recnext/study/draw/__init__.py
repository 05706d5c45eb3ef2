"""Pictures of what is studied; they need matplotlib."""

"""The `recnext` command: `main` finds the command, one thin module runs each."""

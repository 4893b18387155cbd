"""The wire of splitbus: everything that moves bytes. Imports schemas only."""

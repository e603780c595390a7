"""Commands of this room that grew a file of their own."""

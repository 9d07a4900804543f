"""What a picture's file says of how it was made: written for three readers, read back from many."""

"""The APIs, a file each: how a kind of program asks, in the service's terms and back."""

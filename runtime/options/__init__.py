"""Every option of a call, declared once: for the library, the command line, the record in a
picture's file, the benchmark and a server."""

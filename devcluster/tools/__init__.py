"""The programs: found on this machine, or built once from the Go modules that the folders here pin."""

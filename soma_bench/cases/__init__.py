"""Cases: evaluation inputs with their references, grouped in suites."""

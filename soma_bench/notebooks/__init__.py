"""What the notebooks need beside the package's own calls: settings, progress, tables, answers."""

"""What every other part leans on: errors, settings, storage and control documents."""

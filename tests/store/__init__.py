"""What the store promises, whatever database it runs on."""

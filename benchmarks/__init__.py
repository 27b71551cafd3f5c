"""What Shoal measures about itself, on the machine that it runs on."""
